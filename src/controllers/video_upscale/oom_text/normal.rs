//! Takes out of a log what is not the message: colours, prefixes, line ends.

use super::MAX_BYTES;

/// The text in lower case without any blank, so that a message reads the same however it was wrapped; colour codes and
/// the prefixes of log lines are gone.
pub(super) fn compact(text: &str) -> String {
    let text = strip_escapes(last_bytes(text));
    let mut compact = String::with_capacity(text.len());
    for line in text.split(['\n', '\r']) {
        let line = strip_prefixes(line);
        compact.extend(
            line.chars().filter(|c| !c.is_whitespace() && !c.is_control()).map(|c| c.to_ascii_lowercase()),
        );
    }
    compact
}

fn last_bytes(text: &str) -> &str {
    let mut from = text.len().saturating_sub(MAX_BYTES);
    while !text.is_char_boundary(from) {
        from = from.saturating_add(1);
    }
    text.get(from..).unwrap_or_default()
}

/// Takes out ANSI sequences: `ESC [ ... letter`, `ESC ] ... BEL` and other two-character ones. A sequence that a cut
/// left without its beginning stays; it holds no figure that could be mistaken.
fn strip_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => skip_to(&mut chars, |c| ('@'..='~').contains(&c)),
                Some(']') => skip_to(&mut chars, |c| c == '\u{7}' || c == '\\'),
                _ => {}
            },
            '\u{9b}' => skip_to(&mut chars, |c| ('@'..='~').contains(&c)),
            c => plain.push(c),
        }
    }
    plain
}

/// Skips up to and with the character that ends a sequence. A sequence ends with its line at the latest, so that a
/// broken one swallows no more.
fn skip_to(chars: &mut std::str::Chars<'_>, end: impl Fn(char) -> bool) {
    for c in chars.by_ref() {
        if end(c) || c == '\n' {
            return;
        }
    }
}

/// Takes `[rank0]:`, `(worker pid=7)`, times, stream names and levels off the beginning of a line, in whatever order they come.
fn strip_prefixes(line: &str) -> &str {
    let mut rest = line.trim_start();
    // A box around a traceback has a right side, too.
    if rest.starts_with(['|', '│']) {
        rest = rest.trim_end().trim_end_matches(['|', '│']);
    }
    // Each kind occurs once or twice; the bound keeps a hostile line linear.
    for _ in 0..8 {
        let Some(shorter) = strip_prefix(rest) else { break };
        rest = shorter.trim_start();
    }
    rest
}

fn strip_prefix(line: &str) -> Option<&str> {
    if let Some((inside, after)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let named = after.starts_with(':') && inside.len() <= 32 && !inside.contains(' ');
        let worker = named || is_time(inside) || is_level(inside);
        return worker.then(|| after.strip_prefix(':').unwrap_or(after));
    }
    if let Some((inside, after)) = line.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        return inside.contains("pid=").then_some(after);
    }
    let (word, after) = line.split_once(' ').unwrap_or((line, ""));
    let tag = word.trim_end_matches([':', ',']);
    if matches!(tag, "stdout" | "stderr") {
        // The container runtime's log marks whole lines with F and parts of lines with P.
        return Some(after.strip_prefix("F ").or_else(|| after.strip_prefix("P ")).unwrap_or(after));
    }
    if word.strip_prefix(['I', 'W', 'E', 'F']).is_some_and(|date| date.len() == 4 && digits(date)) {
        return after.split_once("] ").map(|(_, after)| after);
    }
    (matches!(word, "|" | "│") || is_time(tag) || is_level(tag)).then_some(after)
}

fn is_level(word: &str) -> bool {
    matches!(
        word,
        "ERROR" | "WARNING" | "WARN" | "INFO" | "DEBUG" | "CRITICAL" | "FATAL" | "error" | "warning" | "info"
    )
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `2026-11-24`, `02:48:11.123`, `2026-11-24T02:48:11Z`, `2026/11/24`, with or without each other.
fn is_time(text: &str) -> bool {
    let separators = text.bytes().filter(|b| matches!(b, b':' | b'-' | b'/')).count();
    let known = |b: u8| {
        b.is_ascii_digit() || matches!(b, b':' | b'-' | b'/' | b'.' | b',' | b'+' | b'T' | b'Z' | b' ')
    };
    separators >= 2 && text.len() >= 8 && text.len() <= 40 && text.bytes().all(known)
}
