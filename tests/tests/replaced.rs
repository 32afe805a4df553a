//! Programs and preloads with allocation functions of their own in front of zonal's: each call goes where it
//! goes without zonal.

use zonal_tests::{Program, compile_shared, library};

/// C++ lets a program replace two forms of operator new and delete; all others stand on them.
#[test]
fn two_operators_of_the_program() {
    Program::c("replaced.cpp").run().success().quiet();
}

#[test]
fn a_malloc_of_the_program() {
    Program::c("own_malloc.cpp").run().success().quiet();
}

/// Tools that follow blocks put headers before them; a block that came past such a tool has none.
#[test]
fn a_preload_in_front() {
    let mut preload = compile_shared("headers.c").into_os_string();
    if let Some(zonal) = library() {
        preload.push(":");
        preload.push(zonal);
    }
    Program::plain(zonal_tests::compile("libraries.cpp"))
        .env("LD_PRELOAD", &preload)
        .run()
        .success()
        .quiet();
}
