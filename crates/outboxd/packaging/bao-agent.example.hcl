# The agent of OpenBao (`bao agent -config=FILE`) or Vault in the place of `outboxd secrets pull`: it renders the same files, each
# by a rename, as the same role, and must run as the user outboxd. It does not judge what it renders, and renders each file by
# itself: between a certificate and its key more time can pass, in which the rail's payments wait. Not tried with an agent.

vault {
  address = "https://bao.payments.internal:8200"
}

auto_auth {
  method "approle" {
    mount_path = "auth/approle"
    config = {
      role_id_file_path                   = "/etc/outboxd/approle/role-id"
      secret_id_file_path                 = "/etc/outboxd/approle/secret-id"
      remove_secret_id_file_after_reading = false
    }
  }
}

template_config {
  exit_on_retry_failure = false
}

template {
  contents             = "{{ with secret \"kv/data/outboxd/database\" }}{{ .Data.data.password }}{{ end }}"
  destination          = "/run/outboxd-secrets/database-password"
  perms                = "0400"
  error_on_missing_key = true
}

template {
  contents             = "{{ with secret \"kv/data/outboxd/wire\" }}{{ .Data.data.token }}{{ end }}"
  destination          = "/run/outboxd-secrets/rail-token"
  perms                = "0400"
  error_on_missing_key = true
}

template {
  contents             = "{{ with secret \"kv/data/outboxd/wire-identity\" }}{{ .Data.data.certificate }}{{ end }}"
  destination          = "/run/outboxd-secrets/rail.pem"
  perms                = "0400"
  error_on_missing_key = true
}

template {
  contents             = "{{ with secret \"kv/data/outboxd/wire-identity\" }}{{ .Data.data.key }}{{ end }}"
  destination          = "/run/outboxd-secrets/rail.key"
  perms                = "0400"
  error_on_missing_key = true
}
