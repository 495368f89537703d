//! The stand-in library as a file: building it, and copies of it that lack symbols as an old driver's library does.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the library into cargo's folder `target` and says where it lies: cargo hands tests no path of another
/// package's library.
///
/// # Errors
/// When cargo cannot be run or the library does not build.
#[expect(clippy::disallowed_methods, reason = "cargo names itself to what it runs")]
pub fn build(target: &Path) -> io::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "-p", "gpusim-nvml", "--lib", "--target-dir"])
        .arg(target)
        .status()?;
    if !status.success() {
        return Err(io::Error::other(format!("the library does not build: {status}")));
    }
    Ok(target.join("debug/libnvidia_ml.so"))
}

/// A library without a symbol cannot be made, as it has none of that name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the library has no symbol {symbol:?} to leave out")]
pub struct NoSuchSymbol {
    /// The symbol.
    pub symbol: String,
}

/// A copy of a library's `bytes` in which the dynamic linker does not find `symbols`: for it they are not there.
///
/// A symbol's name in the string table is spoilt, its hash in the table of hashes is not; so a search for the old
/// name ends at the comparison of names, and one for the new name at the hash (System V ABI, "Hash Table"; the GNU
/// table compares both in the same order).
///
/// # Errors
/// When the library has no such symbol.
pub fn without(bytes: &[u8], symbols: &[&str]) -> Result<Vec<u8>, NoSuchSymbol> {
    let mut copy = bytes.to_vec();
    for symbol in symbols {
        let name: Vec<u8> = [b"\0", symbol.as_bytes(), b"\0"].concat();
        let spoilt: Vec<u8> = name.iter().map(|byte| if *byte == 0 { 0 } else { b'_' }).collect();
        let places: Vec<usize> =
            copy.windows(name.len()).enumerate().filter(|(_, at)| *at == name).map(|(at, _)| at).collect();
        if places.is_empty() {
            return Err(NoSuchSymbol { symbol: (*symbol).to_owned() });
        }
        for at in places {
            for (to, from) in copy.iter_mut().skip(at).zip(&spoilt) {
                *to = *from;
            }
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_is_spoilt_and_no_part_of_another() {
        let table = b"\0nvmlGet\0nvmlGet_v2\0GetX\0";
        assert_eq!(without(table, &["nvmlGet"]).unwrap(), b"\0_______\0nvmlGet_v2\0GetX\0");
        let missing = without(table, &["Get_v2"]).unwrap_err();
        assert_eq!(missing.symbol, "Get_v2");
    }
}
