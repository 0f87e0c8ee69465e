//! Does `myriapod serve` do what its help says? Asked of the program itself, over real sockets.

mod limits;
mod listening;
mod services;
mod stopping;
mod support;
mod usage;
