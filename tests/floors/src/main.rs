//! Prints each crate's modules and what they import, and whatever is against the order.

use trunkline_floors::{imports, manifest, order, repository};

fn main() {
    let crates = manifest::read_all(&repository().join("crates"));
    let mut faults = order::crate_faults(&crates);
    for manifest in crates {
        println!("{} -> {}", manifest.name, manifest.dependencies.join(" "));
        let graph = imports::read(&manifest.root);
        for (module, imports) in graph.arrows() {
            println!("    {module} -> {}", imports.join(" "));
        }
        faults.extend(order::module_faults(&manifest.name, &graph));
    }
    for fault in &faults {
        println!("{fault}");
    }
}
