//! A configuration file: is it taken, refused with its line, and read again?

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::support::{Serving, TempDir, binary, myriapod, search};

struct Config {
    dir: TempDir,
}

impl Config {
    fn new(text: &str) -> Self {
        let config = Self { dir: TempDir::new() };
        config.write(text);
        config
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn serve(&self, args: &[&str]) -> Serving {
        Serving::spawn(myriapod().arg("serve").args(args).arg("--config").arg(self.path()))
    }
}

#[test]
fn does_serve_do_what_the_file_says() {
    let config =
        Config::new("host = '127.0.0.1'\nport = 0\nmax-content-len = '1KiB'\nservice = 'echo'\n");
    let serving = config.serve(&[]);
    let mut client = serving.connect();
    assert_eq!(client.ask(&binary(b"hello")).content, b"hello");
    assert_eq!(client.ask(&binary(&[0; 1025])).header["error"], "ContentTooLong");
    // A flag wins.
    let serving = config.serve(&["--max-content-len", "2KiB"]);
    assert_eq!(serving.connect().ask(&binary(&[0; 1025])).content.len(), 1025);
}

#[test]
fn is_a_file_that_is_wrong_refused_with_its_line() {
    let config = Config::new("port = 0\nmax-conten-len = 1\n");
    let output = myriapod().args(["serve", "--config"]).arg(config.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = format!("{}:2: there is no setting \"max-conten-len\"", config.path().display());
    assert!(said.contains(&expected) && said.lines().count() == 1, "{said}");
    let output = myriapod().args(["serve", "--config", "/nowhere"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn does_sighup_read_the_file_again() {
    let config = Config::new("port = 0\nmax-content-len = '1KiB'\nthreads = 2\n");
    let serving = config.serve(&["--service", "echo"]);
    let path = config.path().display().to_string();
    let mut before = serving.connect();
    assert_eq!(before.ask(&binary(&[0; 1024])).content.len(), 1024);

    config.write(
        "port = 0\nmax-content-len = '2KiB'\nthreads = 3\nservice = 'raw'\nverbose = true\n",
    );
    serving.signal(Signal::SIGHUP);
    let said = serving.wait_for("SIGHUP");
    let expected = format!(
        "SIGHUP: changed by {path}: max-content-len, verbose; cannot change without a restart: threads"
    );
    assert_eq!(said, expected);
    assert_eq!(before.ask(&binary(&[0; 2048])).content.len(), 2048);
    serving.wait_for("message of");

    // Whatever is wrong with it, all of it is refused.
    for wrong in
        ["max-content-len = 1\nnothing = 1\n", "max-content-len = 'x'\n", "high-water = 1\n"]
    {
        config.write(wrong);
        serving.signal(Signal::SIGHUP);
        let said = serving.wait_for("SIGHUP");
        assert!(said.ends_with("; all settings stay as they are"), "{said}");
    }
    assert_eq!(before.ask(&binary(&[0; 2048])).content.len(), 2048);

    config.write("port = 0\nthreads = 2\n");
    serving.signal(Signal::SIGHUP);
    let said = serving.wait_for("SIGHUP");
    assert_eq!(said, format!("SIGHUP: changed by {path}: max-content-len, verbose"));
    assert_eq!(before.ask(&binary(&[0; 4096])).content.len(), 4096);
    serving.signal(Signal::SIGHUP);
    serving.wait_for(&format!("SIGHUP: {path} says nothing new"));
    drop(before);
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn does_sighup_without_a_file_change_nothing() {
    let serving = Serving::on_loopback(&[]);
    serving.signal(Signal::SIGHUP);
    serving.wait_for("SIGHUP: there is no --config file, so nothing changes");
    serving.connect().ask(&search("ring"));
    assert_eq!(serving.stop().status, Some(0));
}
