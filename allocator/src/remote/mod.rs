//! Frees by others: objects that one heap owns and another thread frees.
//!
//! ```text
//!   free --> bin of the freer, when the group is its own --> barn --> bin of whoever wants the class
//!     |                                                       |
//!     +--------> outbox, a message for each owner <-- no place there
//!                   |              |
//!                   v              +--> reuse, while much is in flight
//!              inbox of the owner
//! ```
//!
//! Reading order: `inbox` has the message and how it gets to the owner, `outbox` what is not sent yet; `group` tells
//! which objects bins take whoever owns them, and `barn` is where these change hands without a look at their owners.
//! `flight` counts what owners did not take in yet; while that is much, `reuse` hands it out again.

pub(crate) mod barn;
pub(crate) mod flight;
pub(crate) mod group;
mod inbox;
pub(crate) mod outbox;
pub(crate) mod reuse;

pub(crate) use self::inbox::{Inbox, MESSAGE_BYTES, MESSAGE_OBJECTS, Message};
