//! A plugin in Rust with zonal inside, for programs that open and close it.

#[global_allocator]
static ZONAL: zonal::Zonal = zonal::Zonal;

/// Makes `count` strings; how many bytes they have in all.
#[unsafe(no_mangle)]
pub extern "C" fn work(count: usize) -> usize {
    let texts: Vec<String> = (0..count).map(|i| "x".repeat(i % 3000)).collect();
    texts.iter().map(String::len).sum()
}
