//! A destination that is full at any point: the stage says so, leaves nothing half and no room taken, and ends right once
//! there is room. Mounts a small volume; who has no right to is told that the test is skipped.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use video_upscale::api::worker::{Code, End};

use crate::bench::{Bench, Engine, ExpectDone as _};
use crate::made::make;

/// Smallest piece of a volume, bytes.
const PAGE: u64 = 4096;

/// A small volume in memory, mounted on a folder.
pub struct Volume(PathBuf);

impl Volume {
    /// Mounts one. `None`, said past the test harness, without the right to.
    pub fn mounted(folder: PathBuf) -> Option<Self> {
        let small = c"size=16m,mode=0755";
        match mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), small) {
            Ok(()) => Some(Self(folder)),
            Err(Errno::PERM) => {
                let test = std::thread::current();
                let name = test.name().unwrap_or_default();
                let said = format!("SKIPPED: {name}: no right to mount a volume\n");
                std::io::stdout().write_all(said.as_bytes()).unwrap();
                None
            }
            Err(error) => panic!("a volume on {}: {error}", folder.display()),
        }
    }

    fn free(&self) -> u64 {
        let facts = statvfs(&self.0).unwrap();
        facts.f_bavail * facts.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.0.join(".ballast")
    }

    /// Leaves that much room, in whole pages.
    pub fn leave(&self, bytes: u64) {
        self.clear();
        let file = File::create(self.ballast()).unwrap();
        let taken = self.free().checked_sub(bytes).unwrap();
        if taken > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, taken).unwrap();
        }
    }

    /// Leaves all of it.
    pub fn clear(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// How a volume is filled again and again.
#[derive(Clone, Copy)]
struct Filling {
    /// Least room, bytes.
    from: u64,
    /// How much more is left the next time, bytes.
    step: u64,
    /// What a run that was refused may leave: small files of the work folder.
    kept: u64,
}

/// Runs a stage with more and more room until it ends well. How often it was full.
fn fill(volume: &Volume, target: &Path, filling: Filling, run: &dyn Fn() -> End) -> u32 {
    let all = volume.free();
    let mut early = None;
    for number in 0u32.. {
        let room = filling.from + u64::from(number) * filling.step;
        volume.leave(room);
        let end = run();
        volume.clear();
        if end.code == Code::Done {
            let bytes = std::fs::read(target).unwrap();
            assert!(
                early.is_none_or(|early| early == bytes),
                "{} was there before it was whole",
                target.display()
            );
            return number;
        }
        assert_eq!(end.code, Code::OutOfSpace, "{room} bytes of room: {}", end.message);
        if target.exists() {
            // Only what comes after it had no room.
            early = Some(std::fs::read(target).unwrap());
        } else {
            let left = all - volume.free();
            assert!(left <= filling.kept, "{room} bytes of room: the stage leaves {left} bytes");
        }
    }
    unreachable!()
}

const FILM: &str = "-f lavfi -i testsrc2=s=160x90:r=25:d=1,noise=alls=30:allf=t \
                    -f lavfi -i anoisesrc=d=1:r=48000 -c:v libx264 -pix_fmt yuv420p -c:a flac";

#[test]
fn a_full_destination_is_told_and_left_as_it_was() {
    let bench = Bench::new("full");
    make(&bench, "film.mkv", FILM);
    let Some(volume) = Volume::mounted(bench.destination("")) else { return };
    let plan = bench.work_folder().join("plan.json");
    let filling = Filling { from: 0, step: 32_768, kept: 4 * PAGE };
    assert!(fill(&volume, &plan, filling, &|| bench.probe("film.mkv", "out.mkv")) >= 2);

    let segments = bench.probe("film.mkv", "out.mkv").expect_done().probe.unwrap().segments;
    let mut parts = 0;
    for segment in 0..segments {
        bench.cut("film.mkv", segment, 1);
        bench.run_engine(1, &Engine::default());
        let bytes = bench.finish(segment, 1).expect_done().finish.unwrap().bytes;
        parts += bytes;
        let name = bench.work_folder().join(format!("parts/0-{segment:05}"));
        let manifest = name.with_extension("json");
        std::fs::remove_file(&manifest).unwrap();
        std::fs::remove_file(name.with_extension("mp4")).unwrap();
        let filling = Filling { from: 0, step: (bytes / 5).next_multiple_of(PAGE), kept: 0 };
        assert!(fill(&volume, &manifest, filling, &|| bench.finish(segment, 1)) >= 4);
    }
    let result = bench.destination("out.mkv");
    let filling = Filling { from: parts.next_multiple_of(PAGE), step: 4 * PAGE, kept: 4 * PAGE };
    assert!(fill(&volume, &result, filling, &|| bench.merge("film.mkv", "out.mkv")) >= 3);
    assert!(bench.destination("out.mkv.upscale.json").is_file() && !bench.work_folder().exists());
}

#[test]
fn a_destination_that_cannot_be_written_is_told_by_the_probe() {
    let bench = Bench::new("read-only");
    make(&bench, "film.mkv", FILM);
    let Some(_volume) = Volume::mounted(bench.destination("")) else { return };
    mount_remount(bench.destination(""), MountFlags::RDONLY, c"").unwrap();
    let end = bench.probe("film.mkv", "out.mkv");
    assert_eq!(end.code, Code::DestinationNotWritable, "{}", end.message);
    assert!(end.message.contains("Read-only file system"), "{}", end.message);
}

#[test]
fn what_a_killed_merge_left_does_not_count_against_the_next() {
    let bench = Bench::new("full-left");
    make(&bench, "film.mkv", FILM);
    let Some(volume) = Volume::mounted(bench.destination("")) else { return };
    bench.probe("film.mkv", "out.mkv").expect_done();
    let parts: u64 = (0..2)
        .map(|segment| {
            bench.cut("film.mkv", segment, 1);
            bench.run_engine(1, &Engine::default());
            bench.finish(segment, 1).expect_done().finish.unwrap().bytes
        })
        .sum();
    // As large as all parts, and room for little more beside it.
    let left = bench.destination(".out.mkv.partial-full-left");
    std::fs::write(&left, vec![0; usize::try_from(parts).unwrap()]).unwrap();
    let others = std::fs::metadata(bench.source("film.mkv")).unwrap().len();
    volume.leave(others + 65_536);
    bench.merge("film.mkv", "out.mkv").expect_done();
    assert!(!left.exists());
}

#[test]
fn a_full_scratch_is_told_and_the_next_cut_is_right() {
    let bench = Bench::new("full-scratch");
    make(&bench, "film.mkv", FILM);
    bench.probe("film.mkv", "out.mkv").expect_done();
    let Some(volume) = Volume::mounted(bench.root().join("scratch")) else { return };
    bench.cut("film.mkv", 0, 1);
    let piece = bench.root().join("scratch/p0");
    let cut = piece.join("in.mp4");
    let whole = std::fs::read(&cut).unwrap();
    let step = (whole.len() as u64 / 6).next_multiple_of(PAGE);
    let mut full = 0;
    for number in 0.. {
        if piece.exists() {
            std::fs::remove_dir_all(&piece).unwrap();
        }
        volume.leave(number * step);
        let outcome = bench.try_cut("film.mkv", 0, 1);
        volume.clear();
        let Err(failure) = outcome else { break };
        assert_eq!(failure.code(), Code::OutOfSpace, "{} bytes of room: {failure}", number * step);
        full += 1;
    }
    assert!(full >= 6, "{full}");
    assert!(std::fs::read(&cut).unwrap() == whole, "another cut");
}
