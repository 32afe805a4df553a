//! What the user asked of zonal, and what of it the library does not understand.

use std::os::unix::ffi::OsStrExt as _;

use super::finding::Finding;
use crate::system::{System, printable};

const CHECK: &str = "settings";

/// The settings in the environment that the process was started with.
pub(super) fn check(system: &System) -> Vec<Finding> {
    let Some(conf) = system.variable("ZONAL_CONF") else { return Vec::new() };
    let mut wrong = Vec::new();
    zonal_settings::check(conf.as_bytes(), |reason| {
        let reason = printable(&reason.to_string());
        wrong.push(Finding::warning(CHECK, reason).means("this one has no effect"));
    });
    if wrong.is_empty() {
        let text = printable(&conf.to_string_lossy());
        wrong.push(Finding::fine(CHECK, if text.is_empty() { "the defaults" } else { &text }));
    }
    wrong
}
