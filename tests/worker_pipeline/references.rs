//! Films that name other files: tracks whose data is said to lie elsewhere, attached files that are called by a path.
//! What they name is neither opened nor written.

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use video_upscale::api::worker::Code;

use crate::bench::{Bench, Engine};
use crate::clips::Clip;
use crate::killed::files;
use crate::made::{make, make_at};

const FILM: &str = "-f lavfi -i testsrc2=s=64x36:r=25:d=0.6 -c:v libx264 -pix_fmt yuv420p";

/// Where the boxes begin that the byte at `at` lies in, outermost first.
fn boxes_around(bytes: &[u8], at: usize) -> Vec<usize> {
    let (mut found, mut begin) = (Vec::new(), 0);
    while begin + 8 <= at {
        let size = u32::from_be_bytes(bytes[begin..begin + 4].try_into().unwrap()) as usize;
        if begin + size <= at {
            begin += size;
        } else {
            found.push(begin);
            begin += 8;
        }
    }
    found
}

/// An entry that says that a track's data lies in another file, as QuickTime writes it: an alias with an absolute path.
fn alias(path: &str) -> Vec<u8> {
    let mut alias = b"alis\0\0\0\0".to_vec();
    alias.extend([0; 10 + 28 + 12 + 64 + 16 + 4 + 16]);
    alias.extend(2u16.to_be_bytes());
    alias.extend(u16::try_from(path.len()).unwrap().to_be_bytes());
    alias.extend(path.as_bytes());
    alias.extend([0; 1][..path.len() % 2].iter());
    alias.extend((-1i16).to_be_bytes());
    alias.extend([0; 2]);
    let size = u32::try_from(alias.len() + 4).unwrap();
    [&size.to_be_bytes()[..], &alias].concat()
}

#[test]
fn data_that_is_said_to_lie_in_another_file_is_not_read_from_there() {
    let bench = Bench::new("alias");
    make_at(&bench, FILM, &bench.root().join("secret.mov"));
    make(&bench, "film.mov", FILM);
    let secret = bench.root().join("secret.mov");
    let path = bench.source("film.mov");
    let mut bytes = std::fs::read(&path).unwrap();
    // "dref", version, one entry: twelve bytes that say that the data is here.
    let dref = bytes.windows(4).position(|four| four == b"dref").unwrap() - 4;
    let entry = dref + 16;
    assert_eq!(&bytes[entry..entry + 12], b"\0\0\0\x0curl \0\0\0\x01");
    let alias = alias(&secret.to_string_lossy());
    for begin in boxes_around(&bytes, dref + 8) {
        let size = u32::from_be_bytes(bytes[begin..begin + 4].try_into().unwrap());
        let larger = size + u32::try_from(alias.len() - 12).unwrap();
        bytes[begin..begin + 4].copy_from_slice(&larger.to_be_bytes());
    }
    bytes.splice(entry..entry + 12, alias);
    std::fs::write(&path, bytes).unwrap();

    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, &secret, WatchFlags::OPEN).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut opened = inotify::Reader::new(&watch, &mut buffer);
    let end = bench.probe("film.mov", "out.mov");
    assert!(
        [Code::Done, Code::InvalidSource, Code::UnsupportedSource].contains(&end.code),
        "{:?} {}",
        end.code,
        end.message
    );
    assert_eq!(opened.next().err(), Some(Errno::WOULDBLOCK), "what the film names was opened");
    std::fs::File::open(&secret).unwrap();
    assert!(opened.next().is_ok(), "an opening is not noticed");
}

#[test]
fn attached_files_that_are_called_by_a_path_stay_inside() {
    let bench = Bench::new("paths");
    Clip::new(
        "film.mkv",
        "FILM -c:v libx264 -pix_fmt yuv420p -attach FONT -metadata:s:t:0 mimetype=font/ttf -metadata:s:t:0 \
         filename=../../../escaped.ttf -attach COVER -metadata:s:t:1 mimetype=image/jpeg -metadata:s:t:1 \
         filename=../../escaped.jpg",
    )
    .frames(20)
    .make(&bench);
    bench.upscale("film.mkv", "out.mkv", 1, &Engine::default());
    let names = |name: &str| files(&bench.root().join(name)).into_keys().collect::<Vec<_>>();
    for folder in ["source", "destination", "scratch", ""] {
        let found = names(folder);
        assert!(!found.iter().any(|path| path.to_string_lossy().contains("escaped")), "{found:?}");
    }
    let above = std::fs::read_dir(bench.root().join("..")).unwrap();
    assert!(!above.flatten().any(|entry| entry.file_name().to_string_lossy().contains("escaped")));
    let result = bench.ffprobe(&["-show_streams"], &bench.destination("out.mkv"));
    let kept: Vec<&str> = result["streams"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|stream| stream["tags"]["filename"].as_str())
        .collect();
    assert_eq!(kept, ["../../../escaped.ttf", "../../escaped.jpg"], "names are only names");
}
