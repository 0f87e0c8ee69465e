//! [`Succession`]: a server that is being built takes over from another process, and lets the next one
//! take over from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use myriapod_sys::{ListenOptions, Listener, SocketAddr, SocketFile, UnixAddr};

use crate::error::Error;
use crate::event_loop::EventLoop;
use crate::handler::Handler;
use crate::handover::{Handover, Summary};
use crate::link::Link;
use crate::log::LogEvent;
use crate::predecessor::Predecessor;
use crate::protocol::Framing;
use crate::successor::{Inherited, Successor};
use crate::sync::atomic::AtomicBool;

/// The part of building that concerns other processes; nothing where none was asked for.
pub(crate) struct Succession {
    handover: Option<(Handover, String)>,
    predecessor: Option<(Successor, Listener)>,
    /// Its listeners, by the places that were asked for.
    listeners: BTreeMap<u16, Vec<Inherited>>,
    /// The addresses, with their numbers, whose files go with this server once it serves.
    pub(crate) files: Vec<(u16, SocketAddr)>,
}

impl Succession {
    /// Asks whether there is a predecessor.
    pub(crate) fn begin(handover: Option<&Handover>, lines: &[String]) -> Result<Self, Error> {
        let handover = handover.map(|handover| (handover.clone(), handover.configuration(lines)));
        let mut this =
            Self { handover, predecessor: None, listeners: BTreeMap::new(), files: Vec::new() };
        let Some((handover, configuration)) = &this.handover else { return Ok(this) };
        if let Some((successor, (inherited, knock))) = Successor::begin(handover, configuration)? {
            for inherited in inherited {
                this.listeners.entry(inherited.place).or_default().push(inherited);
            }
            this.predecessor = Some((successor, knock));
        }
        Ok(this)
    }

    /// The predecessor's listeners of the place with this number; `None` where there is no
    /// predecessor.
    pub(crate) fn take(&mut self, place: u16) -> Option<Vec<Inherited>> {
        self.predecessor.as_ref()?;
        Some(self.listeners.remove(&place).unwrap_or_default())
    }

    /// All is built: takes the connections over, and lets successors knock. `origins` says from which
    /// place each address came.
    pub(crate) fn finish<H: Handler, F: Framing, L: Link>(
        self,
        first: &mut EventLoop<H, F, L>,
        origins: Vec<u16>,
    ) -> Result<(), Error> {
        let Some((handover, configuration)) = self.handover else { return Ok(()) };
        let address = SocketAddr::Unix(UnixAddr::Path(handover.path().to_owned()));
        let mailboxes = first.mailboxes();
        let expects = Arc::new(AtomicBool::new(false));
        let predecessor = Predecessor::new(
            handover,
            configuration,
            Arc::clone(&mailboxes),
            origins,
            Arc::clone(&expects),
        );
        let secure = (!L::IS_PLAIN).then_some("secure connections");
        if let Some(why) = first.why_all_stay().or(secure) {
            first.tell(&LogEvent::StaysHere { why });
        }
        let Some((successor, knock)) = self.predecessor else {
            let options = ListenOptions {
                unix_mode: Some(0o600),
                remove_stale_unix: true,
                ..ListenOptions::default()
            };
            let knock = Listener::bind(&address, &options)?;
            let file = SocketFile::of(&address)?;
            return Ok(first.watch_for_successors(knock, file, predecessor)?);
        };
        let summary = successor.take_over(&mailboxes, first.usher(), expects)?;
        // All is ours now, and must not be lost for what follows: it is told.
        for (number, address) in self.files {
            if let Err(error) = first.own_file(number, &address) {
                first.tell(&LogEvent::Failed { error: &error });
            }
        }
        let watched = SocketFile::of(&address)
            .and_then(|file| first.watch_for_successors(knock, file, predecessor));
        if let Err(error) = watched {
            first.tell(&LogEvent::Failed { error: &error });
        }
        let Summary { connections, process, took } = summary;
        first.tell(&LogEvent::TookOver { connections, process, took });
        Ok(())
    }
}
