//! A copy of the workspace that can be patched without harm.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes `copy` the same as the workspace at `root`. What is the same already is left alone, so that
/// cargo need not build it again.
pub(super) fn bring_up_to_date(root: &Path, copy: &Path) -> Result<(), String> {
    let wanted = files(root)?;
    for file in &wanted {
        let (from, to) = (root.join(file), copy.join(file));
        let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        let folder = to.parent().unwrap_or(copy);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&to, &bytes))
            .map_err(|error| format!("{}: {error}", to.display()))?;
    }
    for file in walk(copy).map_err(|error| format!("{}: {error}", copy.display()))? {
        if !wanted.contains(&file) {
            let extra = copy.join(file);
            fs::remove_file(&extra).map_err(|error| format!("{}: {error}", extra.display()))?;
        }
    }
    Ok(())
}

/// What git tracks or would track; outside of a repository, all but hidden files and `target`.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    if let Ok(listed) = listed
        && listed.status.success()
    {
        let names = String::from_utf8_lossy(&listed.stdout);
        let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        // A file that was deleted is tracked until the next commit.
        let found: BTreeSet<_> = names.filter(|name| root.join(name).is_file()).collect();
        if found.contains(Path::new("Cargo.toml")) {
            return Ok(found);
        }
    }
    walk(root).map_err(|error| format!("{}: {error}", root.display()))
}

/// All files below `root`, but hidden ones and those in folders called `target`.
fn walk(root: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') || name == "target" {
                continue;
            }
            let (path, kind) = (folder.join(&name), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.insert(path);
            }
        }
    }
    Ok(found)
}
