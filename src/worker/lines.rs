//! Lines of a stranger, read without ever holding more than a bounded part of one.

use std::io::{self, Read};

/// Longest line kept, bytes; the rest of a longer one is dropped.
pub const MAX_LINE_BYTES: usize = 16 * 1024;

/// Hands every line (ended by CR or LF) to `take`, until the end or until it returns false.
pub fn for_each_line(mut reader: impl Read, mut take: impl FnMut(&str) -> bool) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    let mut line = Vec::new();
    loop {
        let count = match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for byte in chunk.iter().take(count) {
            if *byte != b'\n' && *byte != b'\r' {
                if line.len() < MAX_LINE_BYTES {
                    line.push(*byte);
                }
                continue;
            }
            if !line.is_empty() && !take(&String::from_utf8_lossy(&line)) {
                return Ok(());
            }
            line.clear();
        }
    }
    if !line.is_empty() {
        take(&String::from_utf8_lossy(&line));
    }
    Ok(())
}

/// One line without control characters, at most `max` characters.
pub fn printable(text: &str, max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for_each_line(text, |line| {
            found.push(line.to_owned());
            true
        })
        .unwrap();
        found
    }

    #[test]
    fn lines_end_at_both_marks_and_at_the_end() {
        assert_eq!(lines(b"a\r\nb\n\nc"), ["a", "b", "c"]);
        assert_eq!(lines(b""), [""; 0]);
    }

    #[test]
    fn endless_lines_are_cut() {
        let text = vec![b'x'; MAX_LINE_BYTES * 3];
        assert_eq!(lines(&text).first().unwrap().len(), MAX_LINE_BYTES);
    }

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(printable("a\u{1b}[1m\nb", 5), "a [1m");
    }
}
