//! The HTTP rail against rails that misbehave: what each ending is reported as, and what the rail saw.

mod answers;
mod connections;
mod credentials;
mod hostile;
mod http2;
mod inquiries;
mod probe;
mod requests;
mod resends;
mod tls;
