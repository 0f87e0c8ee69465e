//! The page as a browser shows it, of a run that is made up.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]
#![allow(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// A run in which everything happened that a page can show.
fn run(scale: f64) -> Report {
    let text = include_str!("test_report.json");
    let mut report: Report = serde_json::from_str(text).unwrap();
    for second in &mut report.series {
        second.rate *= scale;
    }
    report.rate.achieved *= scale;
    report
}

#[test]
fn is_text_of_others_only_text() {
    let evil = "</style><script>alert(1)</script>\"'&{{body}}{{script}}";
    let mut report = run(1.0);
    evil.clone_into(&mut report.settings.host);
    evil.clone_into(&mut report.exit_reason);
    report.exit_status = 1;
    report.warnings.push(evil.to_owned());
    report.errors[0].errno = evil.to_owned();
    report.errors[0].next_step = Some(evil.to_owned());
    report.command = vec![evil.to_owned()];
    let page = page(&report);
    assert!(!page.contains("<script>alert"), "it is escaped");
    assert_eq!(page.matches("<script>").count(), 1);
    assert_eq!(page.matches("<main>").count(), 1);
}

#[test]
fn is_a_run_without_any_figure_a_page_all_the_same() {
    let mut report = run(1.0);
    report.series.clear();
    report.memory.clear();
    report.phases.clear();
    report.curve = Default::default();
    report.latency_ns = Default::default();
    report.server = None;
    report.exit_status = 1;
    let page = page(&report);
    assert!(!page.contains("<svg"), "there is nothing to draw");
    for odd in ["NaN", "inf", "null"] {
        assert!(!page.contains(odd), "{odd}");
    }
}

#[test]
fn needs_the_page_nothing_from_elsewhere() {
    for page in [page(&run(1.0)), comparison(&run(1.0), &run(1.3))] {
        for elsewhere in ["http:", "https:", "url(", "@import", " src=", "<link rel=\"stylesheet"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
        for chart in ["percentiles", "latency", "throughput", "connections", "memory", "processors"]
        {
            assert_eq!(page.matches(&format!("id=\"{chart}\"")).count(), 1, "{chart}");
        }
        assert!(!page.contains("NaN"));
    }
}

/// Asks the page, once it is laid out, what is on it; the answer is found in its title.
const ASK: &str = "<script>addEventListener('load', () => {
  const charts = [...document.querySelectorAll('svg')].filter((svg) => {
    const box = svg.getBoundingClientRect();
    const lines = [...svg.querySelectorAll('path.line')];
    return box.width > 200 && box.height > 100 && lines.some((line) => line.getTotalLength() > 50);
  });
  const svg = document.querySelector('svg'), box = svg.getBoundingClientRect();
  const at = { clientX: box.left + box.width / 2, clientY: box.top + 50, bubbles: true };
  svg.dispatchEvent(new PointerEvent('pointermove', at));
  document.title = JSON.stringify({
    charts: charts.length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    tip: document.getElementById('tip').textContent,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
    background: getComputedStyle(document.body).backgroundColor,
  });
});</script>";

/// What a browser said of a page.
struct Shown {
    found: serde_json::Value,
    console: Vec<String>,
    requests: Vec<String>,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chromium() -> Option<&'static str> {
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        println!("SKIPPED: chromium is not installed, so the page is not shown to a browser");
    }
    found
}

fn show(browser: &str, folder: &Path, page: &str, width: u32, dark: bool) -> Shown {
    let file = folder.join("page.html");
    fs::write(&file, page.replace("</main>", &format!("</main>{ASK}"))).unwrap();
    let log = folder.join("net.json");
    // The frame has the width of a telephone, which a window may not have.
    let frame = folder.join("frame.html");
    let scheme = if dark { 0 } else { 1 };
    let text = format!(
        "<!doctype html><link rel=icon href=data:,><iframe src=page.html width={width} height=900 \
         style=\"border:0;color-scheme:inherit\"></iframe>\
         <script>onload = () => document.title = frames[0].document.title;</script>"
    );
    fs::write(&frame, text).unwrap();
    let done = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--allow-file-access-from-files"])
        .args(["--enable-logging=stderr", "--window-size=1280,1000"])
        // Whatever is asked for is in the log, and nothing of it leaves the machine.
        .arg("--host-resolver-rules=MAP * ~NOTFOUND")
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--log-net-log={}", log.display()))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", frame.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout);
    let stderr = String::from_utf8_lossy(&done.stderr);
    let title = stdout.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next());
    let title = title.unwrap_or_default().replace("&amp;", "&");
    let found = serde_json::from_str(&title)
        .unwrap_or_else(|error| panic!("{error}: {title:?}\n{stdout:.600}\n{stderr:.2000}"));
    let console = stderr.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned);
    // Every request of the page has its URL there, whether it was answered or not.
    let net = fs::read_to_string(&log).unwrap();
    assert!(net.contains("constants"), "the log of requests was written");
    Shown { found, console: console.collect(), requests: requests(&net) }
}

/// Whom Chromium asks for itself, though the flags above forbid most of it: the time, updates, and
/// whether somebody is signed in.
const OWN_HOSTS: [&str; 3] =
    ["accounts.google.com", "clients2.google.com", "update.googleapis.com"];

/// What a page asked others for, by Chromium's log of requests.
fn requests(net: &str) -> Vec<String> {
    let urls = net.split("\"url\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    let outside = urls.filter(|url| {
        let Some((scheme, rest)) = url.split_once("://") else { return false };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        !scheme.starts_with("chrome") && scheme != "file" && !OWN_HOSTS.contains(&authority)
    });
    outside.map(str::to_owned).collect()
}

#[test]
fn does_a_browser_show_all_of_it_without_an_error_or_a_request() {
    let Some(browser) = chromium() else { return };
    let folder = std::env::temp_dir().join(format!("myriapod-page-{}", std::process::id()));
    let folder = Folder(folder);
    fs::create_dir_all(&folder.0).unwrap();
    let pages = [page(&run(1.0)), comparison(&run(1.0), &run(1.3))];
    if let Ok(kept) = std::env::var("MYRIAPOD_PAGES") {
        // For people who want to look at them.
        fs::write(Path::new(&kept).join("run.html"), &pages[0]).unwrap();
        fs::write(Path::new(&kept).join("compare.html"), &pages[1]).unwrap();
    }
    for (page, width, dark) in [(&pages[0], 390, false), (&pages[1], 1200, true)] {
        let shown = show(browser, &folder.0, page, width, dark);
        assert_eq!(shown.requests, Vec::<String>::new(), "{width}");
        assert_eq!(shown.console, Vec::<String>::new(), "{width}");
        assert_eq!(shown.found["charts"], 6, "{width}: {:?}", shown.found);
        assert_eq!(shown.found["overflow"], 0, "nothing hangs over at {width}: {:?}", shown.found);
        assert_eq!(shown.found["dark"], dark);
        let background = if dark { "rgb(18, 18, 20)" } else { "rgb(244, 244, 241)" };
        assert_eq!(shown.found["background"], background);
        assert!(shown.found["tip"].as_str().is_some_and(|tip| tip.contains(" at ")), "{width}");
    }
    // A page that does ask for something is seen to; the policy in ours would not let it.
    let link = "https://fonts.googleapis.com/css";
    let asks = format!("<link rel=stylesheet href={link}></main>");
    let free = pages[0].replace("Content-Security-Policy", "x").replace("</main>", &asks);
    let shown = show(browser, &folder.0, &free, 390, false);
    assert!(shown.requests.iter().any(|url| url == link), "{:?}", shown.requests);
    assert!(shown.requests.iter().all(|url| url == link), "{:?}", shown.requests);
}
