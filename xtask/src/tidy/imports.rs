//! The rule of imports: no two files of a crate need each other, directly or through others.

use std::collections::{BTreeSet, VecDeque};

use crate::tidy::{
    modules::{Edges, Modules},
    tree::Tree,
};

pub(crate) fn files_import_in_no_circle(tree: &Tree) -> Vec<String> {
    tree.members().flat_map(|(dir, _)| circles_in(tree, dir)).collect()
}

fn circles_in(tree: &Tree, dir: &str) -> Vec<String> {
    let source = format!("{dir}/src");
    let mut faults = Vec::new();
    for root in ["lib", "main"] {
        let modules = match Modules::of(tree, &source, root) {
            Ok(modules) => modules,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        for circle in circles(&modules.edges()) {
            let names = circle.iter().filter_map(|file| file.strip_prefix(&format!("{source}/")));
            let names: Vec<_> = names.collect();
            faults.push(format!("{source}: {} import in a circle", names.join(" -> ")));
        }
    }
    faults
}

/// A way from a file back to itself, for each group of files that have one.
fn circles(edges: &Edges) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for start in edges.keys() {
        if found.iter().flatten().any(|file| file == start) {
            continue;
        }
        let mut ways = VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            let last = &way[way.len() - 1];
            if way.len() > 1 && last == start {
                found.push(way);
                break;
            }
            for next in edges.get(last).into_iter().flatten().filter(|next| seen.insert(*next)) {
                ways.push_back([&way[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The circles in a crate of these files below `src`.
    fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
        let own = |(name, text): &(&str, &str)| (format!("x/src/{name}.rs"), (*text).to_owned());
        let files: Vec<_> = files.iter().map(own).collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (&**path, &**text)).collect();
        circles_in(&Tree::of(&files), "x")
    }

    const LIB: (&str, &str) = ("lib", "mod a; mod b; mod c; pub use a::{A, Help}; pub use b::B;");

    #[test]
    fn two_files_that_import_each_other() {
        let b = ("b", "use crate::a::A; pub struct B(A);");
        for a in [
            "use crate::b::B; pub struct A;",
            "use crate::{c, b::{B as Other, Unused}}; pub struct A;",
            // By the name under which the root passes it on.
            "use crate::B; pub struct A;",
            "use std::fmt; fn f() -> crate::b::B { todo() }",
            "use crate::b; fn f() { b::g(); }",
            "fn f() { assert!(crate::b::g()); }",
            "mod inner { use super::super::b::B; } pub struct A;",
        ] {
            assert_eq!(
                circles_of(&[LIB, ("a", a), b]),
                ["x/src: a.rs -> b.rs -> a.rs import in a circle"],
                "{a}"
            );
        }
    }

    #[test]
    fn a_circle_through_a_third_file_and_folders() {
        let lib = ("lib", "mod a; mod b; mod c;");
        let files = [
            lib,
            ("a", "mod deep; pub use deep::Deep;"),
            ("a/deep", "use crate::b::B; pub struct Deep;"),
            ("b/mod", "use crate::c::C; pub struct B;"),
            ("c", "use crate::a::Deep; pub struct C;"),
        ];
        let circle = "x/src: a/deep.rs -> b/mod.rs -> c.rs -> a/deep.rs import in a circle";
        assert_eq!(circles_of(&files), [circle]);
    }

    #[test]
    fn what_is_no_circle() {
        for (a, b) in [
            ("use crate::b::B; pub struct A;", "pub struct B;"),
            // For tests alone.
            ("use crate::b::B;", "#[cfg(test)] mod tests { use crate::a::A; } pub struct B;"),
            ("use crate::b::B;", "#[cfg(test)] use crate::a::A; pub struct B;"),
            // The root passes it on, and defines nothing.
            ("use crate::B;", "pub struct B;"),
            // Of other crates, and of the language.
            ("use a::b::B; use b::B as C;", "use std::a::A;"),
            ("pub struct A; // use crate::b::B\nconst X: &str = \"crate::b::B\";", "use crate::A;"),
        ] {
            assert_eq!(circles_of(&[LIB, ("a", a), ("b", b)]), Vec::<String>::new(), "{a} {b}");
        }
    }

    #[test]
    fn a_parent_and_a_child_that_need_each_other() {
        let parent = "mod child; use child::Child; pub struct Parent(Child);";
        let files = [
            ("lib", "mod a;"),
            ("a", parent),
            ("a/child", "use crate::a::Parent; pub struct Child;"),
        ];
        assert_eq!(circles_of(&files).len(), 1);
        let passes_on = "mod child; pub use child::Child; pub struct Parent;";
        assert!(circles_of(&[files[0], ("a", passes_on), files[2]]).is_empty());
    }
}
