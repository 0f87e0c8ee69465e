//! `myriapod ping`: how long a TCP connection takes, and a message there and back.

use std::fmt;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use myriapod::protocol::{AnyFraming, FramingSpec, Head};
use myriapod::sys;
use myriapod::{Client, ClientOptions, Error, SocketAddr};
use myriapod_tls::ToServer;

use crate::failure::{FAILED, Failure};
use crate::identify;
use crate::interrupt::Interrupt;
use crate::terminal::print_line;
use crate::units::{Count, Timeout};
use myriapod_command::tls::{self, ClientTls};

const EXAMPLES: &str = "\
Examples:
  myriapod ping example.org 443 -c 3         three connections, one a second
  myriapod ping 127.0.0.1 65432 --message    with a JSON-header message on each
  myriapod ping 127.0.0.1 65432 --message='{\"action\": \"list\"}'  with a request of yours
  myriapod ping 127.0.0.1 7000 --json '[1]' --framing length:4be   to a server of another kind
  myriapod ping localhost 65432 -4 -i 200ms  its IPv4 address, often
  myriapod ping unix:/tmp/echo 0 -c 1        a Unix socket

For networks that drop ICMP, which ping(8) needs: this makes a TCP connection \
each time, and closes it. ECONNREFUSED is an answer too: the host is there, but \
nothing listens. Silence is a firewall, or no host. A connect time just over \
1,000 ms means that the first packet was lost and sent again.

A server that answers with an error is there, too: that counts as received.
Without -c it goes on until Ctrl-C, which prints the figures.
Exit status: 0 at least one was received, 1 none, 2 wrong usage.";

/// What --message sends: the servers of the tutorial answer it. Others may know other requests.
const REQUEST: &str = r#"{"action": "search", "value": "ping"}"#;

/// Measure how long connecting takes, and a message there and back
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name, an IPv4 or IPv6 address, or unix:PATH
    host: String,

    /// The server's port; not used with unix:PATH
    port: u16,

    /// How many times [default: until Ctrl-C]
    #[arg(short, long, value_name = "N")]
    count: Option<Count>,

    /// From the beginning of one to the beginning of the next
    #[arg(short, long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(1)))]
    interval: Timeout,

    /// How long each may take to connect, and to be answered
    #[arg(short = 'W', long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(2)))]
    timeout: Timeout,

    /// Also send a JSON-header message and wait for its reply; JSON is the request,
    /// for a server that does not know the tutorial's search
    #[arg(short, long, value_name = "JSON", num_args = 0..=1, require_equals = true,
        default_missing_value = REQUEST, value_parser = parse_request)]
    message: Option<String>,

    /// The same as --message=JSON
    #[arg(long, value_name = "JSON", conflicts_with = "message", value_parser = parse_request)]
    json: Option<String>,

    /// How messages are framed: json-header, padded, length:4be, lines, delimited:\r\n, json
    /// or raw; a name that is none lists all
    #[arg(long, value_name = "SPEC", default_value_t = FramingSpec::DEFAULT)]
    framing: FramingSpec,

    /// Only an IPv4 address
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// Only an IPv6 address
    #[arg(short = '6', long)]
    ipv6: bool,

    #[command(flatten)]
    tls: ClientTls,
}

fn parse_request(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde::de::IgnoredAny>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("that is not JSON: {error}")),
    }
}

/// The least, the greatest, the mean and how far from it the others are, in milliseconds.
///
/// Source: Welford's method, Knuth, The Art of Computer Programming, volume 2, section 4.2.2.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    count: u32,
    least: f64,
    greatest: f64,
    mean: f64,
    squares: f64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        let millis = millis(time);
        self.least = if self.count == 0 { millis } else { self.least.min(millis) };
        self.greatest = self.greatest.max(millis);
        self.count += 1;
        let away = millis - self.mean;
        self.mean += away / f64::from(self.count);
        self.squares += away * (millis - self.mean);
    }
}

/// As ping does: `min/avg/max/stddev = 0.058/0.129/0.165/0.050 ms`.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, least, greatest, mean, squares } = self;
        let deviation = (squares / f64::from((*count).max(1))).sqrt();
        write!(f, "min/avg/max/stddev = {least:.3}/{mean:.3}/{greatest:.3}/{deviation:.3} ms")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What is counted.
#[derive(Debug, Default)]
struct Figures {
    transmitted: u64,
    received: u64,
    connects: Times,
    messages: Times,
    /// Why the last one failed, if it did.
    last_failure: Option<Failure>,
}

impl Figures {
    /// Lost, in tenths of a percent.
    fn loss(&self) -> u64 {
        let lost = self.transmitted - self.received;
        (lost * 1000 + self.transmitted / 2).checked_div(self.transmitted).unwrap_or(0)
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let addresses = sys::resolve(&args.host, args.port)?;
    let Some(address) = addresses.iter().find(|address| is_wanted(args, address)) else {
        let family = if args.ipv4 { "IPv4" } else { "IPv6" };
        return Err(Failure::new(format_args!("{}: no {family} address", args.host))
            .with_next_step(format!("`myriapod resolve {}` shows those it has", args.host)));
    };
    let mut interrupt = Interrupt::catch()?;
    let target = Target::new(args, address)?;
    let mut figures = Figures::default();
    print(format_args!(
        "PING {} ({address}): TCP connect{}{}",
        args.host,
        if target.tunnels.is_some() { ", a TLS handshake" } else { "" },
        match target.message {
            Some(_) if args.framing == FramingSpec::DEFAULT => " and a JSON-header message",
            Some(_) => " and a message",
            None => "",
        }
    ))?;
    let count = args.count.map_or(u64::MAX, |count| count.0 as u64);
    let mut next = sys::now();
    loop {
        next += args.interval.0;
        let line = target.ping(&mut figures);
        print(line)?;
        if figures.transmitted >= count || interrupt.by(next)? {
            break;
        }
    }
    summarize(&target, &figures)?;
    match figures.last_failure {
        _ if figures.received > 0 => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::from(FAILED)),
        Some(failure) if target.message.is_some() && figures.connects.count > 0 => {
            Err(unanswered(&target, figures.connects.count, &failure))
        }
        Some(failure) => {
            let other =
                addresses.iter().find(|other| *other != address && !args.ipv4 && !args.ipv6);
            let next_step = match other.and_then(SocketAddr::ip) {
                Some(ip) => Some(format!("{} has other addresses too, such as {ip}", args.host)),
                None => failure.next_step,
            };
            let message = format!("{address}: none of {} was received", figures.transmitted);
            Err(Failure { message, next_step, code: FAILED })
        }
    }
}

/// The server takes connections, but no message was answered.
fn unanswered(target: &Target, connected: u32, last: &Failure) -> Failure {
    let message = format!("{}: {connected} connected, but no message was answered", target.shown);
    let next_step = match &target.message {
        Some(request) if request == REQUEST => format!(
            "the last said: {}; where the server does not know {REQUEST}, \
             --message='JSON' sends another request",
            last.message
        ),
        _ => format!(
            "the last said: {}; {}",
            last.message,
            match (&last.next_step, &target.framing) {
                (Some(advice), _) => advice.clone(),
                (None, FramingSpec::JsonHeader { .. }) =>
                    "does it speak the JSON-header protocol?".to_owned(),
                (None, framing) => format!("does it speak {framing}?"),
            }
        ),
    };
    Failure::new(message).with_next_step(next_step)
}

fn is_wanted(args: &Args, address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => !args.ipv6,
        SocketAddr::V6(_) => !args.ipv4,
        SocketAddr::Unix(_) => true,
    }
}

/// One address, which stays the same for the whole run.
#[derive(Debug)]
struct Target {
    /// As numeric as it can be, so that no time goes into asking what it means.
    host: String,
    port: u16,
    shown: String,
    /// The request, if one is sent.
    message: Option<String>,
    framing: FramingSpec,
    options: ClientOptions,
    /// What makes connections with TLS, where that is asked for.
    tunnels: Option<ToServer>,
}

impl Target {
    fn new(args: &Args, address: &SocketAddr) -> Result<Self, Failure> {
        let host = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) if v6.scope_id() > 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            SocketAddr::V6(v6) => v6.ip().to_string(),
            SocketAddr::Unix(_) => args.host.clone(),
        };
        let timeout = args.timeout.0;
        let options = ClientOptions {
            connect_timeout: timeout,
            read_timeout: timeout,
            write_timeout: timeout,
            ..ClientOptions::default()
        };
        let message = args.message.as_ref().or(args.json.as_ref()).cloned();
        let (shown, framing) = (address.to_string(), args.framing.clone());
        let tunnels = args.tls.to(&args.host)?;
        Ok(Self { host, port: args.port, shown, message, framing, options, tunnels })
    }

    /// Connects once and returns the line that says what became of it.
    fn ping(&self, figures: &mut Figures) -> String {
        let number = figures.transmitted;
        figures.transmitted += 1;
        match self.try_ping(number, figures) {
            Ok(line) => {
                figures.received += 1;
                line
            }
            Err((error, took, advice)) => {
                let line = format!("{error}: seq={number} after {:.3} ms", millis(took));
                let failure = tls::explain(error, &self.host, self.port);
                figures.last_failure = Some(match advice {
                    Some(advice) => failure.with_next_step(advice),
                    None => failure,
                });
                line
            }
        }
    }

    fn try_ping(&self, number: u64, figures: &mut Figures) -> Result<String, Failed> {
        let start = sys::now();
        let since = || sys::now().saturating_since(start);
        let framing = AnyFraming::new(&self.framing, self.options.limits).for_client();
        let (host, port, options) = (&*self.host, self.port, self.options);
        let connected = match &self.tunnels {
            Some(tunnels) => {
                Client::secure_with_framing(host, port, options, tunnels.clone(), framing)
            }
            None => Client::with_framing(host, port, options, framing),
        };
        let mut client = connected.map_err(|error| (error, since(), None))?;
        let connected = since();
        figures.connects.add(connected);
        let (shown, connected) = (&self.shown, millis(connected));
        let Some(request) = &self.message else {
            return Ok(format!("connected to {shown}: seq={number} time={connected:.3} ms"));
        };
        let start = sys::now();
        let since = || sys::now().saturating_since(start);
        let asked = client.send(&Head::json(), request.as_bytes());
        if let Err(error) = asked {
            return Err((error, since(), identify::advice(client.unread(), &self.framing)));
        }
        let reply = match client.receive() {
            Ok(reply) => reply.to_owned(),
            Err(error) => {
                return Err((error, since(), identify::advice(client.unread(), &self.framing)));
            }
        };
        let reply = reply.as_message();
        let answered = since();
        figures.messages.add(answered);
        let error = reply.error_kind().map_or_else(String::new, |kind| format!(" error={kind}"));
        Ok(format!(
            "{} bytes from {shown}: seq={number} connect={connected:.3} ms time={:.3} ms{error}",
            reply.bytes().len(),
            millis(answered)
        ))
    }
}

/// Why an attempt failed, after how long, and what its user may try.
type Failed = (Error, Duration, Option<String>);

/// As ping's last lines.
fn summarize(target: &Target, figures: &Figures) -> Result<(), Failure> {
    let Figures { transmitted, received, .. } = figures;
    let loss = figures.loss();
    print("")?;
    print(format_args!("--- {} ping statistics ---", target.shown))?;
    print(format_args!(
        "{transmitted} transmitted, {received} received, {}.{}% loss",
        loss / 10,
        loss % 10
    ))?;
    if figures.connects.count > 0 {
        print(format_args!("connect {}", figures.connects))?;
    }
    if figures.messages.count > 0 {
        print(format_args!("round-trip {}", figures.messages))?;
    }
    Ok(())
}

/// One line on standard output, at once.
fn print(line: impl fmt::Display) -> Result<(), Failure> {
    print_line(line).map_err(|error: io::Error| Failure::output(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_the_figures_those_of_the_tutorials_ping() {
        let mut times = Times::default();
        for micros in [58, 165, 164] {
            times.add(Duration::from_micros(micros));
        }
        assert_eq!(times.to_string(), "min/avg/max/stddev = 0.058/0.129/0.165/0.050 ms");
    }

    #[test]
    fn is_the_loss_rounded_to_a_tenth_of_a_percent() {
        let loss =
            |transmitted, received| Figures { transmitted, received, ..Figures::default() }.loss();
        assert_eq!((loss(3, 3), loss(3, 2), loss(3, 0), loss(0, 0)), (0, 333, 1000, 0));
    }
}
