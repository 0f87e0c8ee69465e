//! [`Workshop`]: where patched engines are built and run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::patch::Patch;
use super::tree;
use crate::options::Options;

/// Patched engines run few seeds, so what counts is how soon they are built again: 6 seconds in place
/// of 15. What they depend on is as `cargo sim` has it, and need not be built at all.
const QUICK: [&str; 2] = ["opt-level = 0", "codegen-units = 64"];

/// What is built again for each patch.
const PATCHED: [&str; 5] =
    ["myriapod-sys", "myriapod", "myriapod-tls", "myriapod-cluster", "myriapod-sim"];

/// A copy of the workspace, and a program that was built of it.
#[derive(Debug)]
pub(super) struct Workshop {
    tree: PathBuf,
    program: PathBuf,
    /// That of `cargo sim`.
    target: PathBuf,
}

/// The first seed that failed.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) seed: u64,
    pub(super) step: u64,
    pub(super) failure: String,
}

impl Workshop {
    pub(super) fn set_up(root: &Path) -> Result<Self, String> {
        let target = root.join("target/sim");
        let below = target.join("planted");
        let tree = below.join("tree");
        fs::create_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
        // This also takes out the patch of a run that was interrupted.
        tree::bring_up_to_date(root, &tree)?;
        Ok(Self { tree, program: below.join("myriapod-sim"), target })
    }

    /// Says at once which patches do not apply, rather than after minutes.
    pub(super) fn check(&self, patches: &[Patch]) -> Result<(), String> {
        let checks = patches.iter().filter_map(|patch| patch.check(&self.tree).err());
        let failed: Vec<_> = checks.collect();
        match failed.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{}\nsim/planted/README.md says how to write them anew.",
                failed.join("\n")
            )),
        }
    }

    /// The first seed that fails with this patch.
    pub(super) fn find(&self, patch: &Patch, options: &Options) -> Result<Option<Finding>, String> {
        patch.apply(&self.tree)?;
        let found = self.build(&patch.name).and_then(|()| self.run(&patch.name, options));
        patch.undo(&self.tree)?;
        found
    }

    fn build(&self, name: &str) -> Result<(), String> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--profile", "sim", "--target-dir"]);
        build.arg(&self.target);
        build.args(["--package", "myriapod-sim", "--features", "simulated"]);
        build.args(["--config", "build.rustflags = ['--cfg', 'myriapod_sim']"]);
        for package in PATCHED {
            for setting in QUICK {
                build.args(["--config", &format!("profile.sim.package.{package}.{setting}")]);
            }
        }
        build
            .current_dir(&self.tree)
            // Flags of the environment would take the place of those here.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_INCREMENTAL", "1");
        // `cargo run` told this program about its package. Build scripts that ask for such variables
        // would take them for a change, and a minute of dependencies would be built again.
        for (name, _) in env::vars_os() {
            let is_of_package = name.to_string_lossy().starts_with("CARGO_PKG_")
                || name.to_string_lossy().starts_with("CARGO_MANIFEST_");
            if is_of_package {
                build.env_remove(name);
            }
        }
        let built = build
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cargo build for {name}: {error}"))?;
        if !built.status.success() {
            let told = String::from_utf8_lossy(&built.stderr);
            return Err(format!("{name} does not compile:\n{}", told.trim_end()));
        }
        // `cargo sim` in another terminal puts its own program there.
        let built = self.target.join("sim/myriapod-sim");
        fs::copy(&built, &self.program).map_err(|error| {
            format!("copy {} to {}: {error}", built.display(), self.program.display())
        })?;
        Ok(())
    }

    fn run(&self, name: &str, options: &Options) -> Result<Option<Finding>, String> {
        let &Options { start, seeds, jobs, .. } = options;
        let mut command = Command::new(&self.program);
        command.arg("--first");
        command.args(["--start", &start.to_string(), "--seeds", &seeds.to_string()]);
        if jobs > 0 {
            command.args(["--jobs", &jobs.to_string()]);
        }
        let done = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let told = String::from_utf8_lossy(&done.stdout);
        match told.lines().find_map(finding) {
            Some(finding) => Ok(Some(finding)),
            None if done.status.success() => Ok(None),
            None => {
                Err(format!("{name}: the simulation ended with {} and named no seed", done.status))
            }
        }
    }
}

/// Reads `seed=N step=M: what was wrong`.
fn finding(line: &str) -> Option<Finding> {
    let (seed, rest) = line.strip_prefix("seed=")?.split_once(" step=")?;
    let (step, failure) = rest.split_once(": ")?;
    Some(Finding {
        seed: seed.parse().ok()?,
        step: step.parse().ok()?,
        failure: failure.to_owned(),
    })
}
