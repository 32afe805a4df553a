//! A mixed program for a while, watched for memory that does not come back.

use zonal_tests::{Program, compile_shared};

/// Ten seconds, or `ZONAL_SOAK_SECONDS`: two minutes in `make test`, an hour by `make soak`.
#[test]
fn nothing_drifts() {
    let seconds = std::env::var("ZONAL_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(10);
    let outcome = Program::c("soak.c")
        .arg(format!("seconds={seconds}"))
        .arg(format!("plugin={}", compile_shared("plugin.c").display()))
        .timeout(seconds + 300)
        .run()
        .success()
        .quiet();
    println!("{}", outcome.stdout.trim());
}
