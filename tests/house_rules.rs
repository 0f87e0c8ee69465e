//! Does the source keep the rules of the house? ARCHITECTURE.md says what they are and why.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use myriapod::{Cause, CountKind, LimitKind, LimitValue, Limits, Stats};

/// All Rust sources below a folder of the workspace.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The code of a file: without comments, and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    lines
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn offenders(folder: &str, forbidden: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        for (number, line) in code(&text) {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{}:{number}: {word}", path.display()));
            }
        }
    }
    found
}

#[test]
fn is_the_operating_system_only_in_sys() {
    let forbidden = [
        "libc",
        "nix::",
        "target_os",
        "std::thread",
        "std::process",
        "std::env",
        "std::fs",
        "Instant::now",
        "SystemTime",
        "RawFd",
        "TcpStream",
        "TcpListener",
        "UnixStream",
        "HashMap",
        "HashSet",
        "RandomState",
    ];
    assert!(!sources("src").is_empty());
    let mut found = offenders("src", &forbidden);
    // Tests that have a file to themselves are as those at the end of one.
    found.retain(|found| !found.contains("/tests.rs:"));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn does_the_library_know_no_library_of_tls() {
    let found = offenders("src", &["rustls", "use ring", "myriapod_tls"]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn is_unsafe_code_only_in_sys() {
    let forbidden = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    for folder in
        ["src", "machine", "command", "cluster", "load", "check", "cli", "examples", "tests", "tls"]
    {
        let found = offenders(folder, &forbidden);
        let found: Vec<_> =
            found.iter().filter(|found| !found.contains("house_rules.rs")).collect();
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(!offenders("sys/src", &forbidden).is_empty(), "the words are spelt as rustfmt does");
}

#[test]
fn do_the_sans_io_rooms_know_nothing_of_the_system() {
    for room in ["src/protocol", "slab.rs", "timer.rs", "buffer.rs"] {
        let inside = |(path, _): &(PathBuf, String)| path.to_string_lossy().contains(room);
        let files: Vec<_> = sources("src").into_iter().filter(inside).collect();
        assert!(!files.is_empty(), "{room}");
        for (path, text) in files {
            for (number, line) in code(&text) {
                let knows = line.contains("myriapod_sys") || line.contains("sys::");
                assert!(!knows, "{}:{number} knows the system", path.display());
            }
        }
    }
}

/// What is behind a feature is whole: the rest of a file is the same with it and without.
#[test]
fn do_features_choose_rooms_and_nothing_inside_one() {
    let mut gates = 0;
    for (path, text) in ["src", "sys/src"].into_iter().flat_map(sources) {
        let mut lines = code(&text);
        while let Some((number, line)) = lines.next() {
            if !line.contains("feature = ") {
                continue;
            }
            let is_room = |line: &str| {
                ["mod ", "pub mod ", "pub use "]
                    .iter()
                    .any(|word| line.trim_start().starts_with(word))
            };
            let chosen = lines.find(|(_, line)| !line.trim_start().starts_with("#["));
            let whole = line.trim_start().starts_with("#[cfg(")
                && chosen.is_some_and(|(_, line)| is_room(line));
            assert!(whole, "{}:{number}: {line}", path.display());
            gates += 1;
        }
    }
    assert!(gates > 0, "the attribute is spelt as rustfmt does");
}

#[test]
fn is_every_file_small_enough_to_be_read_in_one_sitting() {
    let tools = [
        "machine/src",
        "command/src",
        "cluster/src",
        "load/src",
        "check/src",
        "doctor/src",
        "rooms/src",
        "cli/src",
        "tls/src",
    ];
    for folder in ["src", "sys/src", "examples"].into_iter().chain(tools) {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            assert!(lines <= 700, "{}: {lines} lines", path.display());
        }
    }
}

#[test]
fn does_the_guide_name_every_example_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = Vec::new();
    for entry in fs::read_dir(root.join("src/guide")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let links = text.split("/blob/main/examples/").skip(1);
        named.extend(links.filter_map(|link| Some(link.split_once(')')?.0.to_owned())));
    }
    for name in &named {
        assert!(root.join("examples").join(name).is_file(), "the guide names examples/{name}");
    }
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_named = named.contains(&name) || !name.ends_with(".rs");
        assert!(is_named, "no page of the guide names examples/{name}");
    }
}

/// Something to try and to break, what one should see, why (folded), and the rung that proves it.
#[test]
fn does_every_page_of_the_guide_have_its_box() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let without = ["guide.md", "glossary.md", "own_protocol.md", "embedding.md"];
    for entry in fs::read_dir(root.join("src/guide")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.ends_with(".md") || without.contains(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for part in ["> **Try", "> **You should see.**", "> <details><summary>", "> **Proof.**"] {
            assert!(text.contains(part), "{name} has no {part}");
        }
    }
}

/// What is hidden is the type of the error at the end, and what other systems do not have.
#[test]
fn is_the_code_of_the_guide_shown_whole() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut snippets = 0;
    for entry in fs::read_dir(root.join("src/guide")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let mut language = None;
        for line in text.lines() {
            match (line.strip_prefix("```"), language) {
                (Some(named), None) => language = Some(named),
                (Some(_), Some(_)) => language = None,
                (None, Some("")) if line.starts_with("# ") => {
                    let without_meaning = line.starts_with("# Ok::<()")
                        || line.starts_with("# #[cfg(")
                        || line == "# }";
                    assert!(without_meaning, "{}: {line}", path.display());
                    snippets += 1;
                }
                _ => {}
            }
        }
    }
    assert!(snippets > 20, "{snippets} hidden lines were looked at");
}

/// Each name in backquotes in SECURITY.md that looks like `file::test`.
#[test]
fn is_every_test_that_the_security_page_names_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let folders = ["tests", "cli/tests", "cluster/tests", "sys/tests", "tls/tests"];
    let inside = ["src", "rooms/src", "sys/src", "tls/src"];
    let tests: Vec<_> = folders.into_iter().chain(inside).flat_map(sources).collect();
    let mut named = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((file, test)) = quoted.split_once("::") else { continue };
        if file.starts_with(char::is_uppercase) {
            // A type.
            continue;
        }
        let is_there = tests.iter().any(|(path, text)| {
            path.with_extension("").ends_with(file) && text.contains(&format!("fn {test}("))
        });
        assert!(is_there, "there is no test {quoted}");
        named += 1;
    }
    assert!(named > 20, "{named} tests");
}

/// The defaults in the table of SECURITY.md are those of the code.
#[test]
fn is_every_default_that_the_security_page_names_the_real_one() {
    let bytes = |count: usize| match (count >> 10, count >> 20) {
        (kib, 0) => format!("{kib} KiB"),
        (_, mib) => format!("{mib} MiB"),
    };
    let seconds = |duration: std::time::Duration| match duration.as_secs() {
        secs if secs >= 120 && secs % 60 == 0 => format!("{} min", secs / 60),
        secs => format!("{secs} s"),
    };
    let limits = myriapod::Limits::default();
    let linger =
        format!("{}, {}", seconds(limits.linger_timeout), bytes(limits.linger_bytes as usize));
    let rows = [
        ("`arrival_timeout`", seconds(limits.arrival_timeout)),
        ("`header_timeout`", seconds(limits.header_timeout)),
        ("`content_timeout`", seconds(limits.content_timeout)),
        ("`idle_timeout`", seconds(limits.idle_timeout)),
        (
            "`high_water`, `low_water`",
            format!("{}, {}", bytes(limits.high_water), bytes(limits.low_water)),
        ),
        ("`write_timeout`", format!("{} without progress", seconds(limits.write_timeout))),
        ("`accept_batch`", format!("1 to {}, adaptive", limits.accept_batch)),
        ("`max_header_len`", bytes(limits.max_header_len)),
        ("`max_content_len`", bytes(limits.max_content_len)),
        ("`max_buffer_bytes`", bytes(limits.max_buffer_bytes)),
        ("`messages_per_event`", limits.messages_per_event.to_string()),
        ("`linger_timeout`, `linger_bytes`", linger),
        ("`drain_timeout`", seconds(limits.drain_timeout)),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    for (limit, default) in rows {
        assert!(page.contains(&format!("| {limit} | {default} |")), "{limit}: {default}");
    }
    assert_eq!((limits.shed_idle, limits.max_connections_per_address), (None, None));
}

/// The lines of the list of arrows in ARCHITECTURE.md, from the top.
fn arrows() -> Vec<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let list = page.split("```arrows\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    list.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The room of a file below `src/`: its first name.
fn room(path: &Path) -> String {
    let below = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn do_all_arrows_point_one_way() {
    let lines = arrows();
    let line_of = |room: &str| lines.iter().position(|line| line.iter().any(|name| name == room));
    let (mut seen, mut known) = (0, std::collections::BTreeSet::new());
    for (path, text) in sources("src") {
        let from = room(&path);
        // The crate's front page, its documentation, and what only tests are made of.
        if ["lib", "guide", "models"].contains(&from.as_str()) || path.ends_with("tests.rs") {
            continue;
        }
        let here = line_of(&from).unwrap_or_else(|| panic!("{from} is not in the list of arrows"));
        known.insert(from.clone());
        for (number, line) in code(&text) {
            let Some((_, rest)) = line.split_once("crate::") else { continue };
            let to: String =
                rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            let Some(there) = line_of(&to).filter(|_| to != from) else { continue };
            assert!(here < there, "{}:{number}: {from} knows {to}", path.display());
            seen += 1;
        }
    }
    let named: std::collections::BTreeSet<_> = lines.into_iter().flatten().collect();
    assert_eq!(known, named, "each room is in the list, and nothing else");
    assert!(seen > 100, "{seen} arrows");
}

/// A page of the repository.
fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn are_the_rooms_of_the_architecture_those_of_the_tree() {
    let text = page("ARCHITECTURE.md");
    let list = text.split("```rooms\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let named: std::collections::BTreeSet<String> = list
        .lines()
        .filter_map(|line| line.split_once("  "))
        .flat_map(|(names, _)| names.split(' ').map(str::to_owned))
        .collect();
    // The front page of the crate, and what only a model checker compiles.
    let there: std::collections::BTreeSet<String> = sources("src")
        .iter()
        .map(|(path, _)| room(path))
        .filter(|room| !["lib", "models"].contains(&room.as_str()))
        .collect();
    assert_eq!(named, there, "each room of src/ is in the list, and nothing else");
}

#[test]
fn is_every_crate_of_the_workspace_in_the_architecture() {
    let manifest = page("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let text = page("ARCHITECTURE.md");
    for member in members.unwrap().split('"').skip(1).step_by(2) {
        assert!(member == "." || text.contains(&format!("`{member}/`")), "{member} is not named");
    }
}

#[test]
fn are_the_first_two_pages_short() {
    for (name, most) in [("README.md", 150), ("ARCHITECTURE.md", 200)] {
        let lines = page(name).lines().count();
        assert!(lines <= most, "{name} has {lines} lines, {most} at most: the rest goes to docs/");
    }
}

#[test]
fn does_every_link_between_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let first = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut seen = 0;
    for path in pages.chain(first.map(|name| root.join(name))) {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, part) = link.split_once('#').unwrap_or((link, ""));
            if link.starts_with("http") {
                continue;
            }
            let there =
                if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            assert!(there.exists(), "{} links to {link}", path.display());
            let headings = fs::read_to_string(&there).unwrap_or_default();
            let is_there = part.is_empty() || headings.lines().any(|line| anchor(line) == part);
            assert!(is_there, "{} links to {link}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} links");
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn do_files_of_one_room_not_know_each_other_in_circles() {
    let mut knows = BTreeMap::<String, Vec<String>>::new();
    let files = sources("src");
    let name = |path: &Path| path.with_extension("").display().to_string();
    let all: Vec<String> = files.iter().map(|(path, _)| name(path)).collect();
    for (path, text) in &files {
        let folder = path.parent().unwrap().display().to_string();
        if folder.contains("/protocol") || path.ends_with("tests.rs") || path.ends_with("mod.rs") {
            continue;
        }
        for (_, line) in code(text) {
            for rest in line.split("super::").skip(1) {
                let to: String =
                    rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let to = format!("{folder}/{to}");
                if all.contains(&to) && to != name(path) {
                    knows.entry(name(path)).or_default().push(to);
                }
            }
        }
    }
    assert!(knows.len() > 5, "{knows:?}");
    assert_eq!(circle(knows), None);
}

/// Takes away each that knows none of those that are left, until nobody is left; what is then left are
/// circles.
fn circle(mut knows: BTreeMap<String, Vec<String>>) -> Option<BTreeMap<String, Vec<String>>> {
    while !knows.is_empty() {
        let free: Vec<String> = knows
            .iter()
            .filter(|(_, to)| to.iter().all(|to| !knows.contains_key(to)))
            .map(|(from, _)| from.clone())
            .collect();
        if free.is_empty() {
            return Some(knows);
        }
        for from in free {
            knows.remove(&from);
        }
    }
    None
}

/// The rooms of its own crate that a line names, also in braces: `use crate::{figures, run::Bench};`.
fn rooms_named(line: &str) -> Vec<String> {
    let name = |rest: &str| -> String {
        rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect()
    };
    let Some((_, rest)) = line.split_once("crate::") else { return Vec::new() };
    let listed = rest.strip_prefix('{').map_or(rest, |list| list.trim_end_matches(['}', ';']));
    if listed == rest {
        return vec![name(rest)];
    }
    listed.split(',').map(|item| name(item.trim())).collect()
}

#[test]
fn do_the_rooms_of_the_tools_know_each_other_in_no_circle() {
    for tool in ["command/src", "cluster/src", "load/src", "check/src", "rooms/src"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(tool);
        let mut knows = BTreeMap::<String, Vec<String>>::new();
        for (path, text) in sources(tool) {
            let below = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let from = below.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            if from == "lib" || path.ends_with("tests.rs") {
                continue;
            }
            for (_, line) in code(&text) {
                let named = rooms_named(line).into_iter().filter(|to| *to != from);
                knows.entry(from.clone()).or_default().extend(named);
            }
        }
        assert!(knows.len() > 5, "{tool}: {knows:?}");
        assert_eq!(circle(knows), None, "{tool}");
    }
}

/// Where the words of the project are: its sources, its tests and its pages.
fn texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["src", "sys", "tls", "cluster", "load", "check", "command", "machine", "cli"];
    let others = ["sim", "bench/src", "examples", "tests", "docs"];
    let mut folders: Vec<_> = folders.iter().chain(&others).map(|name| root.join(name)).collect();
    let first = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut paths: Vec<_> = first.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs" || end == "md") {
                paths.push(path);
            }
        }
    }
    let read = |path: PathBuf| fs::read_to_string(&path).ok().map(|text| (path, text));
    paths.into_iter().filter_map(read).collect()
}

#[test]
fn is_the_name_of_a_test_short_enough_to_be_read() {
    for (path, text) in texts() {
        for rest in text.split("fn ").skip(1) {
            let name = rest.split(['(', '<', ' ']).next().unwrap();
            assert!(name.len() <= 60, "{}: {name} has {} letters", path.display(), name.len());
        }
    }
}

#[test]
fn are_words_that_are_read_twice_left_out() {
    // In two parts, so that this page may be looked at too.
    let words = [
        ("who", "ever "),
        ("for want", " of"),
        ("of one's", " own"),
        (" les", "t "),
        ("before", "hand"),
        ("there", "by"),
        ("hence", "forth"),
        ("where", "upon"),
        ("somebody", " else's"),
    ];
    let words = words.map(|(start, end)| format!("{start}{end}"));
    for (path, text) in texts() {
        for (at, line) in text.lines().enumerate() {
            let line = line.to_lowercase();
            let found = words.iter().find(|word| line.contains(word.as_str()));
            assert_eq!(found, None, "{}:{}", path.display(), at + 1);
        }
    }
}

/// The tables of docs/counts.md, as the code has them.
fn tables_of_counts() -> String {
    let mut out = String::from("| count | metric | what it counts |\n|---|---|---|\n");
    for count in Stats::COUNTS {
        let ending = if count.kind == CountKind::Counter { "_total" } else { "" };
        let (name, metric, help) = (count.name, count.metric, count.help());
        out += &format!("| `{name}` | `myriapod_{metric}{ending}` | {help} |\n");
    }
    out += "\n| `closed_…` | `myriapod_closed_total` with `cause=…` |\n|---|---|\n";
    for cause in Cause::ALL {
        out += &format!("| `closed_{cause}` | `{cause}` |\n");
    }
    out
}

#[test]
fn is_every_count_on_the_page_about_counts() {
    let (page, tables) = (page("docs/counts.md"), tables_of_counts());
    assert!(page.contains(&tables), "docs/counts.md should have these tables:\n\n{tables}");
}

/// The table of docs/limits.md, as the code has it.
fn table_of_limits() -> String {
    let bytes = |bytes: u64| match bytes.trailing_zeros() {
        30.. => format!("{} GiB", bytes >> 30),
        20.. => format!("{} MiB", bytes >> 20),
        10.. => format!("{} KiB", bytes >> 10),
        _ => bytes.to_string(),
    };
    let mut out = String::from("| limit | default | what it bounds |\n|---|---|---|\n");
    for limit in Limits::TABLE {
        // Where it follows from others, the help says how.
        let (help, other) = limit.help.split_once(" [default: ").unwrap_or((limit.help, ""));
        let default = match limit.get(&Limits::default()) {
            Some(LimitValue::Number(number)) if limit.kind == LimitKind::Bytes => bytes(number),
            Some(LimitValue::Number(number)) => number.to_string(),
            Some(LimitValue::Time(time)) => format!("{} s", time.as_secs()),
            Some(LimitValue::Overflow(_)) => "the new message is dropped".to_owned(),
            _ => other.trim_end_matches(']').to_owned(),
        };
        out += &format!("| `{}` | {default} | {help} |\n", limit.name);
    }
    out
}

#[test]
fn is_every_limit_on_the_page_about_limits() {
    let (page, table) = (page("docs/limits.md"), table_of_limits());
    assert!(page.contains(&table), "docs/limits.md should have this table:\n\n{table}");
}
