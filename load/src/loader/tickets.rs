//! [`Tickets`]: those that a server has given, for handshakes that resume a session.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use myriapod_tls::rustls::NamedGroup;
use myriapod_tls::rustls::client::{
    ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use myriapod_tls::rustls::pki_types::ServerName;

/// Tickets that are kept at most. Each serves once, and a server gives two for a connection.
const MOST: usize = 4096;

/// The tickets of one server, for all connections of a thread: rustls' own store keeps eight.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    group: Mutex<Option<NamedGroup>>,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _server_name: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = Some(group);
    }

    fn kx_hint(&self, _server_name: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_tls12_session(
        &self,
        _server_name: ServerName<'static>,
        _value: Tls12ClientSessionValue,
    ) {
    }

    fn tls12_session(&self, _server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _server_name: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        _server_name: ServerName<'static>,
        value: Tls13ClientSessionValue,
    ) {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if tickets.len() == MOST {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(
        &self,
        _server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        // The newest is the one that the server is most likely to know still.
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).pop_back()
    }
}
