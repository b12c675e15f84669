//! Tests of the engine as its users see it, one module per property.

mod hostile;
mod no_alloc;
mod reference;
mod session;
mod stream;
