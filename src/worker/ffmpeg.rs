//! ffmpeg and ffprobe as child processes: argument arrays, never a shell; files only, never a network; bounded
//! memory for what they say; killed when the worker is told to end.

mod child;

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub use child::{Children, Running, Said, is_of_reading};

use super::failure::{Failure, Outcome};
use super::lines::for_each_line;
use crate::api::worker::Code;

/// Oldest version that works: 5.1 knows no `-display_rotation` and moves Opus by 7 ms at each remux.
const OLDEST: (u32, u32) = (6, 1);
/// How long a look at a file's header may take.
const HEADER_DEADLINE: Duration = Duration::from_secs(120);
/// Most that is read of ffprobe's JSON, bytes.
const MAX_JSON_BYTES: u64 = 64 * 1024 * 1024;

/// The two programs of one build.
#[derive(Clone, Debug)]
pub struct Tools {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
    threads: u32,
    major: u32,
    children: Children,
}

impl Tools {
    /// Finds both programs, by path or on PATH, and checks their versions. `threads`: per codec and filter.
    ///
    /// # Errors
    /// [`Code::Internal`] if one cannot be started, is too old, or they are not of one version.
    pub fn find(ffmpeg: &Path, ffprobe: &Path, threads: u32, children: Children) -> Outcome<Self> {
        let mut tools =
            Self { ffmpeg: ffmpeg.to_owned(), ffprobe: ffprobe.to_owned(), threads, major: 0, children };
        let of_ffmpeg = tools.version("ffmpeg", &tools.ffmpeg)?;
        let of_ffprobe = tools.version("ffprobe", &tools.ffprobe)?;
        if of_ffmpeg != of_ffprobe {
            // Different builds disagree about the start of a film by the priming of its sound.
            return Err(Failure::stop(
                Code::Internal,
                format!("ffmpeg is {of_ffmpeg}, ffprobe is {of_ffprobe}; both must be of one build"),
            ));
        }
        let version = numbers(&of_ffmpeg);
        // Builds of the development line have no number; they are newer than any release.
        let (major, minor) = version.unwrap_or((u32::MAX, 0));
        if (major, minor) < OLDEST {
            return Err(Failure::stop(
                Code::Internal,
                format!("ffmpeg is {of_ffmpeg}; at least {}.{} is needed", OLDEST.0, OLDEST.1),
            ));
        }
        tools.major = major;
        Ok(tools)
    }

    fn version(&self, program: &'static str, path: &Path) -> Outcome<String> {
        let mut run = self.invocation(program, path);
        run.args(["-version"]).deadline(HEADER_DEADLINE);
        let mut first = None;
        run.lines("tell its version", |line| {
            first.get_or_insert_with(|| line.to_owned());
            true
        })?;
        let line = first.unwrap_or_default();
        let word = line.split_whitespace().nth(2).unwrap_or_default();
        Ok(word.to_owned())
    }

    /// An ffmpeg that says errors only.
    pub fn ffmpeg(&self) -> Invocation {
        let mut run = self.ffmpeg_saying("error");
        run.threads = Some(self.threads);
        run
    }

    /// An ffmpeg with that log level.
    pub fn ffmpeg_saying(&self, level: &str) -> Invocation {
        let mut run = self.invocation("ffmpeg", &self.ffmpeg);
        run.threads = Some(self.threads);
        run.args(["-nostdin", "-hide_banner", "-y", "-loglevel", level]);
        run
    }

    /// An ffprobe that says errors only.
    pub fn ffprobe(&self) -> Invocation {
        let mut run = self.invocation("ffprobe", &self.ffprobe);
        run.args(["-hide_banner", "-v", "error"]);
        run
    }

    /// The option that reads a filter graph from a file, which replaced another one in version 7.
    pub fn graph_option(&self) -> &'static str {
        if self.major >= 7 { "-/filter_complex" } else { "-filter_complex_script" }
    }

    /// Threads per codec and filter.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    fn invocation(&self, program: &'static str, path: &Path) -> Invocation {
        Invocation {
            program,
            path: path.to_owned(),
            args: Vec::new(),
            deadline: None,
            threads: None,
            children: self.children.clone(),
        }
    }
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let version = version.strip_prefix('n').unwrap_or(version);
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

/// One run of a program, being put together.
#[derive(Debug)]
pub struct Invocation {
    program: &'static str,
    path: PathBuf,
    args: Vec<OsString>,
    deadline: Option<Duration>,
    threads: Option<u32>,
    children: Children,
}

impl Invocation {
    /// Appends arguments.
    pub fn args<T: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = T>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Appends an input file; it may open nothing but files.
    pub fn input(&mut self, path: &Path) -> &mut Self {
        if let Some(threads) = self.threads {
            self.args(["-threads", &threads.to_string()]);
        }
        self.args(["-protocol_whitelist", "file", "-i"]);
        self.args.push(file_url(path));
        self
    }

    /// Appends that the output is a hash of each picture, or packet.
    pub fn hashes(&mut self) -> &mut Self {
        self.args(["-f", "framehash", "-hash", "murmur3"])
    }

    /// Appends a file name, as output.
    pub fn file(&mut self, path: &Path) -> &mut Self {
        self.args.push(file_url(path));
        self
    }

    /// Ends the program after that time.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self
    }

    /// Starts it; its standard output is read by the caller. Lines of standard error that `heard` returns true for
    /// are not remembered.
    pub fn start(
        &self,
        purpose: &'static str,
        heard: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Outcome<Running> {
        let mut command = std::process::Command::new(&self.path);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running::start(self.program, purpose, command, self.deadline, &self.children, heard)
    }

    /// Runs it to its end and hands out every line of its standard output; `take` returns false to stop listening.
    ///
    /// # Errors
    /// [`Failure::Tool`] if it cannot be started or does not succeed.
    pub fn lines(&self, purpose: &'static str, take: impl FnMut(&str) -> bool) -> Outcome<Said> {
        self.lines_hearing(purpose, take, |_| false)
    }

    /// As [`Self::lines`], and every line of its standard error goes to `heard` first.
    pub fn lines_hearing(
        &self,
        purpose: &'static str,
        take: impl FnMut(&str) -> bool,
        heard: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Outcome<Said> {
        let mut running = self.start(purpose, heard)?;
        if let Some(output) = running.take_output() {
            for_each_line(output, take).map_err(|error| running.broken(&error))?;
        }
        running.wait()
    }

    /// Runs it to its end.
    pub fn run(&self, purpose: &'static str) -> Outcome<Said> {
        self.lines(purpose, |_| true)
    }

    /// Runs it to its end and parses its standard output as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&mut self, purpose: &'static str) -> Outcome<T> {
        self.deadline(HEADER_DEADLINE);
        let mut running = self.start(purpose, |_| false)?;
        let mut text = Vec::new();
        if let Some(output) = running.take_output() {
            output.take(MAX_JSON_BYTES).read_to_end(&mut text).map_err(|error| running.broken(&error))?;
        }
        running.wait()?;
        serde_json::from_slice(&text).map_err(|error| Failure::Tool {
            program: self.program,
            purpose,
            ended: "wrote what is not the JSON that was asked for".to_owned(),
            said: error.to_string(),
        })
    }
}

/// A path as ffmpeg takes it for a file, whatever characters are in it.
fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_distributions_are_read() {
        for (text, expected) in [
            ("7.1.5-0+deb13u1", Some((7, 1))),
            ("n6.1", Some((6, 1))),
            ("8.0", Some((8, 0))),
            ("5.1.9-0+deb12u1", Some((5, 1))),
            ("7", Some((7, 0))),
            ("N-118000-g1234", None),
            ("", None),
        ] {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn names_are_never_options_or_protocols() {
        assert_eq!(file_url(Path::new("-y")), "file:-y");
        assert_eq!(file_url(Path::new("http:x")), "file:http:x");
    }

    #[test]
    fn a_missing_program_is_named() {
        let missing = Path::new("/no/such/ffmpeg");
        let error = Tools::find(missing, missing, 1, Children::default()).unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(error.to_string().contains("/no/such/ffmpeg"), "{error}");
    }
}
