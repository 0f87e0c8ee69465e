//! `SIGHUP`: the configuration file is read again while peers are served.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use myriapod::{Handle, ServersStats};

use crate::config_file::Settings;
use crate::failure::Failure;
use crate::service_manager::{ServiceManager, served};
use crate::terminal::tell;
use crate::tls;

/// What is needed to read the configuration again.
#[derive(Debug)]
pub(crate) struct Reload {
    /// The command line, which wins over the file.
    pub(crate) given: Vec<OsString>,
    pub(crate) path: Option<PathBuf>,
    /// What is in force.
    pub(crate) settings: Mutex<Settings>,
    /// Whether there is a line for each connection and message.
    pub(crate) verbose: Arc<AtomicBool>,
    pub(crate) manager: Arc<ServiceManager>,
}

impl Reload {
    /// Reads the file again, and says what came of it. The loops serve meanwhile.
    pub(crate) fn run(&self, handle: &Handle) {
        self.manager.reloading();
        if let Some(certificates) = tls::SERVED.get() {
            match certificates.reload() {
                Ok(()) => {
                    tell("SIGHUP: new handshakes show the certificates as their files are now");
                }
                Err(failure) => tell(format_args!("SIGHUP: {failure}")),
            }
        }
        match self.try_it(handle) {
            Ok(said) => tell(format_args!("SIGHUP: {said}")),
            Err(failure) => tell(format_args!("SIGHUP: {failure}; all settings stay as they are")),
        }
        let stats = handle.stats().map(|loops| served(&ServersStats::from(loops)));
        self.manager.ready(&stats.unwrap_or_default());
    }

    fn try_it(&self, handle: &Handle) -> Result<String, Failure> {
        let Some(path) = &self.path else {
            return Ok("there is no --config file, so nothing changes".to_owned());
        };
        // One after the other.
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let read = Settings::read(&self.given, Some(path))?;
        let (mut changed, mut fixed) = (Vec::new(), Vec::new());
        let mut next = read.clone();
        for (name, value) in &mut next.values {
            let Some(before) = settings.values.get(name).filter(|before| *before != value) else {
                continue;
            };
            // A limit that was set cannot become "as many as there are descriptors" again.
            let is_lifted = name == "max-connections" && value.is_empty();
            if (read.args.is_limit(name) || name == "verbose") && !is_lifted {
                changed.push(name.clone());
            } else {
                fixed.push(name.clone());
                value.clone_from(before);
            }
        }
        handle.set_limits(&read.args.limits.to_limits())?;
        handle.set_log_messages(read.args.verbose).map_err(myriapod::Error::from)?;
        self.verbose.store(read.args.verbose, Relaxed);
        *settings = next;
        let mut said = match &changed[..] {
            [] => format!("{} says nothing new", path.display()),
            names => format!("changed by {}: {}", path.display(), names.join(", ")),
        };
        if !fixed.is_empty() {
            said.push_str(&format!("; cannot change without a restart: {}", fixed.join(", ")));
        }
        Ok(said)
    }
}
