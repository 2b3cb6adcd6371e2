//! Intake from its outside: what becomes of bodies, of deliveries in any order, and of hostile text.
//!
//! `bench` is an intake without a network; `corpus`, `gates`, `guards`, `episodes` and `concurrency` use it. `wire` and
//! `hostile` use the real binary.

mod bench;
mod concurrency;
mod corpus;
mod episodes;
mod gates;
mod guards;
mod hostile;
mod wire;
