//! The pictures of the result against the source's: all of them, or those that show whether the parts were joined right.

use super::times::Times;
use super::verify::Checked;
use crate::api::worker::Code;
use crate::worker::compare::{RAW, films, shrink};
use crate::worker::cut;
use crate::worker::deinterlace;
use crate::worker::failure::Outcome;
use crate::worker::ffmpeg::{Invocation, Tools};
use crate::worker::index::Index;
use crate::worker::ratio::seconds;

/// How much is looked at of the beginning and of the end, microseconds, and most pictures of it.
const ENDS: (i64, usize) = (1_000_000, 120);
/// Most joins that one run looks at: its filter names each of them.
const JOINS: usize = 200;
/// With more keys of the source than that between two joins, a new run seeks to the second; it goes back two.
const KEYS: usize = 4;

/// Every picture of the result against its own source picture.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub(super) fn all(tools: &Tools, checked: &Checked<'_>) -> Outcome<()> {
    let index = &checked.work.index;
    let owned = index.owned();
    let mut made = made(tools, checked, None, &[], "");
    made.args(RAW);
    let compare = |start: Option<&str>, select: &str| {
        let expected = expected(tools, checked, start, select, owned.frames());
        films(&made, &expected, owned.frames(), Code::BadOutput, "the joined film is wrong")
    };
    if index.excerpt.is_none() {
        return compare(None, "");
    }
    let time = |number: u64| index.time(number).unwrap_or(0);
    let last = owned.end.saturating_sub(1);
    let select = format!("select='between(pts,{},{})',", time(owned.start), time(last));
    from_somewhere(index, owned.start, |start| compare(start, &select))
}

/// The first and the last second, and the first picture of every part: parts that were exchanged or lost show there, as
/// what is inside a part was proved when it was made.
///
/// # Errors
/// [`Code::BadOutput`] with what is wrong.
pub(super) fn some(tools: &Tools, checked: &Checked<'_>, times: &Times) -> Outcome<()> {
    let index = &checked.work.index;
    let owned = index.owned();
    let time = |number: u64| index.base.micros(index.time(number).unwrap_or(0));
    let (start, end) = (time(owned.start), time(owned.end));
    let first: Vec<u64> = (owned.start..owned.end)
        .take_while(|number| time(*number).saturating_sub(start) < ENDS.0)
        .take(ENDS.1)
        .collect();
    let mut last: Vec<u64> = (owned.start..owned.end)
        .rev()
        .take_while(|number| end.saturating_sub(time(*number)) <= ENDS.0)
        .take(ENDS.1)
        .collect();
    last.reverse();
    if last.is_empty() {
        // It is shown for longer than that.
        last.extend(owned.end.checked_sub(1));
    }
    let joins: Vec<u64> = checked.manifests.iter().map(|part| part.owned.start).collect();
    let joins =
        runs(index, &joins).into_iter().map(|pictures| (pictures, true, "first pictures of its parts"));
    let ends = [(first, false, "its first second"), (last, false, "its last second")];
    ends.into_iter()
        .chain(joins)
        .try_for_each(|(pictures, keys, what)| Look { pictures, keys }.compare(tools, checked, times, what))
}

/// Joins that are looked at in one run, so that little of the source is decoded between them.
fn runs(index: &Index, joins: &[u64]) -> Vec<Vec<u64>> {
    let key = |picture: u64| index.keys.partition_point(|key| *key <= picture);
    let mut runs: Vec<Vec<u64>> = Vec::new();
    for join in joins {
        match runs.last_mut() {
            Some(run)
                if run.len() < JOINS
                    && run.last().is_some_and(|last| key(*join).saturating_sub(key(*last)) <= KEYS) =>
            {
                run.push(*join);
            }
            _ => runs.push(vec![*join]),
        }
    }
    runs
}

/// Pictures that one run looks at.
struct Look {
    /// Their numbers, ascending.
    pictures: Vec<u64>,
    /// Whether each is one with which decoding of the result may begin; else they follow each other.
    keys: bool,
}

impl Look {
    fn compare(&self, tools: &Tools, checked: &Checked<'_>, times: &Times, what: &str) -> Outcome<()> {
        let index = &checked.work.index;
        let owned = index.owned();
        let (Some(first), Some(last)) = (self.pictures.first(), self.pictures.last()) else { return Ok(()) };
        let number = |picture: u64| picture.saturating_sub(owned.start);
        let select_by = |tick: &dyn Fn(u64) -> Option<i64>| {
            let tick = |picture: u64| tick(picture).unwrap_or(0);
            if self.keys {
                let each: Vec<String> =
                    self.pictures.iter().map(|picture| format!("eq(pts,{})", tick(*picture))).collect();
                format!("select='{}',", each.join("+"))
            } else {
                format!("select='between(pts,{},{})',", tick(*first), tick(*last))
            }
        };
        let of_source = select_by(&|picture| index.time(picture));
        let of_result = select_by(&|picture| times.tick(number(picture)));
        let count = u64::try_from(self.pictures.len()).unwrap_or(u64::MAX);
        let before: &[&str] = if self.keys { &["-skip_frame", "nokey"] } else { &[] };
        let told = format!("the joined film is wrong, {what}");
        from_somewhere(index, *first, |start| {
            let expected = expected(tools, checked, start, &of_source, count);
            // Where the source is read from its beginning, an earlier try has failed, or nothing is gained.
            let seek = start.and(times.micros(number(*first))).map(seconds);
            let mut made = made(tools, checked, seek.as_deref(), before, &of_result);
            made.args(["-frames:v", &count.to_string()]).args(RAW);
            films(&made, &expected, count, Code::BadOutput, &told)
        })
    }
}

/// As a cut does: decoding may begin later than is right for a picture; then it begins earlier.
fn from_somewhere(
    index: &Index,
    first: u64,
    mut compare: impl FnMut(Option<&str>) -> Outcome<()>,
) -> Outcome<()> {
    let mut outcome = Ok(());
    for start in cut::starts(index, first) {
        outcome = compare(start.as_deref());
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The source's pictures, from that second on and only what `select` lets through.
fn expected(
    tools: &Tools,
    checked: &Checked<'_>,
    start: Option<&str>,
    select: &str,
    count: u64,
) -> Invocation {
    let index = &checked.work.index;
    let mut run = tools.ffmpeg_saying("fatal");
    run.args(["-copyts", "-noautorotate"]);
    if let Some(start) = start {
        run.args(["-seek_timestamp", "1", "-ss", start]);
    }
    run.input(checked.source);
    let fields = deinterlace::filter(index.deinterlace, index.base);
    let filter = format!("{fields}{select}{}", shrink(&index.colour.read_by_scale()));
    run.args(["-map", &format!("0:{}", index.stream), "-vf", &filter]);
    run.args(["-frames:v", &count.to_string()]).args(RAW);
    run
}

/// The result's pictures, likewise; `before` its input. Output options are to be added.
fn made(
    tools: &Tools,
    checked: &Checked<'_>,
    start: Option<&str>,
    before: &[&str],
    select: &str,
) -> Invocation {
    let mut run = tools.ffmpeg();
    run.args(["-copyts", "-noautorotate"]).args(before);
    if let Some(start) = start {
        run.args(["-noaccurate_seek", "-seek_timestamp", "1", "-ss", start]);
    }
    let height = checked.manifests.first().map_or(0, |part| part.height);
    let read_as = checked.work.index.colour.of_result(height).read_by_scale();
    let filter = format!("{select}{}", shrink(&read_as));
    run.input(checked.result).args(["-map", "0:v:0", "-vf", &filter]);
    run
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::index::tests::film;

    #[test]
    fn joins_that_are_far_apart_are_looked_at_in_runs_of_their_own() {
        let times: Vec<i64> = (0..1000).collect();
        let keyed = |every: u64| Index {
            keys: (0..1000).step_by(every as usize).collect(),
            ..film(&times, "1/25", 1)
        };
        let joins = [0, 100, 200, 900];
        assert_eq!(runs(&keyed(250), &joins), [joins.to_vec()]);
        assert_eq!(runs(&keyed(50), &joins), [vec![0, 100, 200], vec![900]]);
        assert_eq!(runs(&keyed(10), &joins), joins.map(|join| vec![join]));
        let many: Vec<u64> = (0..500).collect();
        assert_eq!(runs(&keyed(250), &many).iter().map(Vec::len).collect::<Vec<_>>(), [200, 200, 100]);
    }
}
