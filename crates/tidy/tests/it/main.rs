//! Runs every rule on this repository. A rule that fails prints each breach with its path and line.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up should panic")]

use std::path::Path;

use tidy::{
    Finding, Tree, boundary, clients, dependencies, documents, invariants, layout, machines, mentions, phantoms,
    register, rust_files, sql, words,
};

fn check(rule: impl Fn(&Tree) -> Vec<Finding>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let tree = Tree::read(root).unwrap();
    assert!(tree.exists("crates/tidy/src/lib.rs"), "the rules look at the repository");
    let findings: Vec<String> = rule(&tree).iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// One test for each rule, under the rule's own name.
macro_rules! rules {
    ($($module:ident :: $rule:ident),* $(,)?) => {
        $(#[test] fn $rule() { check($module::$rule); })*
    };
}

rules! {
    boundary::core_boundary_is_kept,
    clients::only_the_rail_asks_over_http,
    dependencies::crates_keep_their_places,
    dependencies::versions_come_from_the_workspace,
    documents::architecture_lists_the_crates,
    documents::documents_are_there,
    invariants::invariants_name_their_tests,
    layout::decisions_are_named_by_date,
    layout::scripts_stop_at_the_first_failure,
    layout::toml_can_be_read,
    layout::top_level_is_as_agreed,
    machines::files_name_no_machine,
    mentions::mentioned_commands_exist,
    mentions::mentioned_paths_exist,
    phantoms::evidence_names_tests_that_exist,
    phantoms::every_script_is_named,
    phantoms::invariant_ids_exist,
    phantoms::paths_in_scripts_and_ci_exist,
    register::architecture_is_in_the_register,
    register::invariants_page_is_generated,
    register::promises_point_to_invariants,
    register::register_is_whole,
    rust_files::comments_hold_no_tests,
    rust_files::files_are_short,
    rust_files::files_have_a_header,
    rust_files::functions_are_short,
    rust_files::integration_tests_are_one_binary,
    rust_files::names_say_something,
    rust_files::tests_do_not_sleep,
    rust_files::tests_run_and_can_fail,
    sql::errors_are_of_our_class,
    sql::function_files_are_reviewable,
    sql::keywords_are_lower_case,
    sql::security_definers_are_pinned,
    words::words_are_the_glossarys,
}
