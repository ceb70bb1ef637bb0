//! The rules of the repository that no compiler checks, held against the checkout.

use std::fs;

use strongroom_hack::{edges::Edges, paths, tidy};

#[test]
fn direct_edges_between_our_packages_are_those_of_the_table() {
    let file = paths::checkout().join("hack/edges.txt");
    let table = fs::read_to_string(file).expect("the table is committed");
    let edges = Edges::load().expect("`cargo metadata` works");
    assert_eq!(
        edges.table(),
        table,
        "if the new edge is meant: `cargo xtask edges > hack/edges.txt`, and say why in the commit"
    );
}

#[test]
fn no_package_reaches_one_that_is_fenced_in() {
    let edges = Edges::load().expect("`cargo metadata` works");
    assert_eq!(edges.crossed_fences(), Vec::<String>::new());
}

#[test]
fn files_keep_the_rules_of_the_repository() {
    let violations = tidy::violations().expect("the files can be read");
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}
