//! The modules of a crate, and what they need of each other.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Macro, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::tidy::tree::Tree;

/// The names of a path, such as `crate::a::B`.
type Path = Vec<String>;

/// Each file with those that it needs.
pub(crate) type Edges = BTreeMap<String, BTreeSet<String>>;

/// What a name that is written in a crate stands for.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Module,
    /// An item, by the file that defines it.
    Item(String),
}

/// A module that is not for tests alone.
#[derive(Debug, Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// The names that its `use` items bring in, with what they stand for.
    names: BTreeMap<String, Path>,
    /// What it imports or names in its code.
    needs: Vec<Path>,
}

/// The modules of a crate, by their paths from its root.
#[derive(Debug, Default)]
pub(crate) struct Modules(BTreeMap<Path, Module>);

impl Modules {
    /// Reads a crate with the root file `name` in `dir`; there is nothing to read where it is not.
    pub(crate) fn of(tree: &Tree, dir: &str, name: &str) -> Result<Self, String> {
        let mut modules = Self::default();
        modules.read(tree, &Path::new(), dir, name)?;
        Ok(modules)
    }

    /// Reads the module `name` with its files in `dir`, and those below it.
    fn read(&mut self, tree: &Tree, path: &Path, dir: &str, name: &str) -> Result<(), String> {
        let places = [format!("{dir}/{name}.rs"), format!("{dir}/{name}/mod.rs")];
        let Some(file) = places.into_iter().find(|place| tree.file(place).is_some()) else {
            return Ok(());
        };
        let text = tree.file(&file).unwrap_or_default();
        let syntax: File = syn::parse_str(text).map_err(|error| format!("{file}: {error}"))?;
        let mut reader = Reader { modules: self, file, path: path.clone(), below: Vec::new() };
        reader.enter();
        reader.visit_file(&syntax);
        for child in reader.below {
            let (parents, name) = child.split_at(child.len() - 1);
            let dir = parents.iter().skip(path.len()).fold(
                if path.is_empty() {
                    dir.to_owned()
                } else {
                    format!("{dir}/{}", path[path.len() - 1])
                },
                |dir, parent| format!("{dir}/{parent}"),
            );
            self.read(tree, &child, &dir, &name[0])?;
        }
        Ok(())
    }

    /// Which file needs which other ones.
    pub(crate) fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (path, module) in &self.0 {
            for need in &module.needs {
                if let Some(Found::Item(file)) = self.resolve(path, need, RENAMES_MAX)
                    && file != module.file
                {
                    edges.entry(module.file.clone()).or_default().insert(file);
                }
            }
        }
        edges
    }

    /// Follows a path, as it is written in a module, to the file that defines the item.
    fn resolve(&self, from: &Path, path: &[String], renames: usize) -> Option<Found> {
        let (first, mut rest) = path.split_first()?;
        let here = self.0.get(from)?;
        let mut at = match first.as_str() {
            "crate" => Path::new(),
            "self" => from.clone(),
            "super" => from.split_last()?.1.to_vec(),
            name if here.children.contains(name) => [&from[..], &[name.to_owned()]].concat(),
            name => return self.follow(from, here.names.get(name)?, rest, renames),
        };
        while let Some((name, below)) = rest.split_first() {
            let module = self.0.get(&at)?;
            if name == "super" {
                at.pop();
            } else if module.children.contains(name) {
                at.push(name.clone());
            } else if let Some(renamed) = module.names.get(name) {
                return self.follow(&at, renamed, below, renames);
            } else {
                return Some(Found::Item(module.file.clone()));
            }
            rest = below;
        }
        Some(Found::Module)
    }

    fn follow(&self, at: &Path, name: &Path, rest: &[String], renames: usize) -> Option<Found> {
        self.resolve(at, &[&name[..], rest].concat(), renames.checked_sub(1)?)
    }
}

/// More than a name is ever passed on; a name that stands for itself is another crate's.
const RENAMES_MAX: usize = 16;

/// Reads one file into the modules.
struct Reader<'a> {
    modules: &'a mut Modules,
    file: String,
    path: Path,
    /// Modules with files of their own.
    below: Vec<Path>,
}

impl Reader<'_> {
    fn enter(&mut self) {
        self.module().file = self.file.clone();
    }

    fn module(&mut self) -> &mut Module {
        self.modules.0.entry(self.path.clone()).or_default()
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_item(&mut self, item: &Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        let name = item.ident.to_string();
        self.module().children.insert(name.clone());
        self.path.push(name);
        if item.content.is_some() {
            self.enter();
            visit::visit_item_mod(self, item);
        } else {
            self.below.push(self.path.clone());
        }
        self.path.pop();
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        let mut leaves = Vec::new();
        flatten(&item.tree, &Path::new(), &mut leaves);
        let inherited = matches!(item.vis, Visibility::Inherited);
        for (name, path) in leaves {
            let module = self.module();
            // To pass a child's item on is not to need it.
            if inherited || !module.children.contains(&path[0]) && path[0] != "self" {
                module.needs.push(path.clone());
            }
            module.names.insert(name, path);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let names: Path = path.segments.iter().map(|part| part.ident.to_string()).collect();
        if names.len() > 1 {
            self.module().needs.push(names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &Macro) {
        // What a macro's expansion names is needed where it is used, and `$crate::m!` is in no file.
        let text = item.tokens.to_string().replace(" :: ", "::").replace("$ crate::", "");
        let words = text.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter));
        for word in words.filter(|word| word.contains("::")) {
            let names = word.split("::").filter(|name| !name.is_empty()).map(ToOwned::to_owned);
            self.module().needs.push(names.collect());
        }
        visit::visit_macro(self, item);
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

/// Each name that a `use` brings in, with its whole path.
fn flatten(tree: &UseTree, before: &Path, leaves: &mut Vec<(String, Path)>) {
    let with = |name: &syn::Ident| [&before[..], &[name.to_string()]].concat();
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), leaves),
        UseTree::Name(name) if name.ident == "self" => {
            leaves.extend(before.last().map(|last| (last.clone(), before.clone())));
        }
        UseTree::Name(name) => leaves.push((name.ident.to_string(), with(&name.ident))),
        UseTree::Rename(name) if name.ident == "self" => {
            leaves.push((name.rename.to_string(), before.clone()));
        }
        UseTree::Rename(name) => leaves.push((name.rename.to_string(), with(&name.ident))),
        // What it brings in is found where it is defined.
        UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, leaves)),
    }
}
