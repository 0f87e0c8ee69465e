//! The servers: how each is started, and a place for what is compiled.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// `myriapod check` with these arguments.
pub(crate) fn check(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .arg("check")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The rungs as `--json` tells them.
pub(crate) fn rungs(output: &Output) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let rungs: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rungs.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    rungs
}

/// The names of the rungs with this result.
pub(crate) fn with_result(rungs: &[serde_json::Value], result: &str) -> Vec<String> {
    let has = rungs.iter().filter(|rung| rung["result"] == result);
    has.map(|rung| rung["rung"].as_str().unwrap().to_owned()).collect()
}

fn source(name: &str) -> String {
    format!("{}/tests/check/servers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter itself: a wrapper that finds it takes longer to start. `None`, and a line that
/// says so, without one.
fn interpreter() -> Option<&'static str> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let path = String::from_utf8(asked.ok()?.stdout).ok()?;
        Some(path.trim().to_owned()).filter(|path| !path.is_empty())
    };
    let found = FOUND.get_or_init(find).as_deref();
    if found.is_none() {
        println!("skipped: there is no python3");
    }
    found
}

/// `--run` for one of the tutorial's servers.
pub(crate) fn python(name: &str) -> Option<String> {
    Some(format!("{} {} 127.0.0.1 {{port}}", interpreter()?, source(&format!("{name}.py"))))
}

/// `--run` for a server in C; `None`, and a line that says so, without a compiler.
pub(crate) fn c(name: &str, mistake: &str) -> Option<String> {
    let program = folder().join(format!("{name}-{}-{mistake}", std::process::id()));
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, Path::new(&source(&format!("{name}.c")))])
        .status();
    match compiled {
        Ok(status) => assert!(status.success(), "{name}.c cannot be compiled"),
        Err(_) => {
            println!("skipped: there is no cc");
            return None;
        }
    }
    Some(format!("{} {mistake} {{port}}", program.display()))
}

/// Below `target`, where nobody minds what is left behind.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// `--run` for the shortest server there is; `None`, and a line that says so, without `node`.
pub(crate) fn node() -> Option<String> {
    if Command::new("node").arg("--version").output().is_err() {
        println!("skipped: there is no node");
        return None;
    }
    let server = "require('net').createServer(s => s.pipe(s)).listen({port}, '127.0.0.1')";
    Some(format!("node -e \"{server}\""))
}

/// `--run` for `myriapod serve`.
pub(crate) fn serve(service: &str) -> String {
    let program = env!("CARGO_BIN_EXE_myriapod");
    format!("{program} serve 127.0.0.1 {{port}} --service {service} --header-timeout 3s")
}

/// `--run` for one of our examples, built where it is not yet.
pub(crate) fn example(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    // Tests are in `deps`; a newer cargo has them further below, in `build`.
    let folder = |at: &&Path| ["deps", "build"].iter().any(|name| at.ends_with(name));
    let profile = test.ancestors().find(folder).and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    if !program.exists() {
        let named = match profile.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            named => named,
        };
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo)
            .args([
                "build",
                "-p",
                "myriapod",
                "--example",
                name,
                "--profile",
                named,
                "--target-dir",
            ])
            .arg(profile.parent().unwrap())
            .status();
        assert!(built.unwrap().success(), "{name} cannot be built");
    }
    format!("{} 127.0.0.1 {{port}}", program.display())
}
