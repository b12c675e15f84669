//! Tests of the engine as its users see it, one module per property.

mod session;
