//! [`Patch`]: a bug in a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bug as a unified diff against `src/`, with a line of plain English on top.
#[derive(Debug)]
pub(super) struct Patch {
    /// The file's name without its ending.
    pub(super) name: String,
    /// What the bug is.
    pub(super) says: String,
    path: PathBuf,
}

impl Patch {
    /// Those in `sim/planted`, by name.
    pub(super) fn all(root: &Path) -> Result<Vec<Self>, String> {
        let folder = root.join("sim/planted");
        let in_folder = |error| format!("{}: {error}", folder.display());
        let mut patches = Vec::new();
        for entry in fs::read_dir(&folder).map_err(in_folder)? {
            let path = entry.map_err(in_folder)?.path();
            if path.extension().is_some_and(|ending| ending == "patch") {
                patches.push(Self::read(path)?);
            }
        }
        if patches.is_empty() {
            return Err(format!("{} has no patches", folder.display()));
        }
        patches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(patches)
    }

    fn read(path: PathBuf) -> Result<Self, String> {
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let says = text.lines().next().unwrap_or_default().trim().to_owned();
        if says.is_empty() || says.starts_with("---") || says.starts_with("diff ") {
            return Err(format!("{}: the first line must say what the bug is", path.display()));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, says, path })
    }

    /// Applies it to the tree below `to`.
    pub(super) fn apply(&self, to: &Path) -> Result<(), String> {
        self.run(to, &[], &["--silent", "--forward"])
    }

    /// Takes it out again.
    pub(super) fn undo(&self, to: &Path) -> Result<(), String> {
        self.run(to, &["--reverse"], &["--silent", "--reverse"])
    }

    /// Whether it would apply.
    pub(super) fn check(&self, to: &Path) -> Result<(), String> {
        self.run(to, &["--check"], &["--silent", "--forward", "--dry-run"])
    }

    /// With git, or with patch where there is no git. Neither may guess where a change belongs.
    fn run(&self, to: &Path, for_git: &[&str], for_patch: &[&str]) -> Result<(), String> {
        let mut git = Command::new("git");
        git.args(["apply", "--whitespace=nowarn"]).args(for_git);
        // The copy lies inside the repository that it was copied from. If git saw that, it would
        // pass over all that the repository does not track, and say nothing.
        git.env("GIT_CEILING_DIRECTORIES", to.parent().unwrap_or(to));
        git.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
        let mut patch = Command::new("patch");
        patch.args(["-p1", "--fuzz=0", "--batch"]).args(for_patch).arg("-i");
        for command in [&mut git, &mut patch] {
            let Ok(done) = command.arg(&self.path).current_dir(to).output() else { continue };
            if done.status.success() {
                return Ok(());
            }
            let told = [done.stdout, done.stderr].concat();
            let told = String::from_utf8_lossy(&told).trim().to_owned();
            return Err(format!("{} does not apply: {told}", self.name));
        }
        Err(format!("{}: neither git nor patch is there to apply it", self.name))
    }
}
