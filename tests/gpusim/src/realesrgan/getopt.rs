//! The command line, as POSIX `getopt` with `i:o:s:t:m:n:g:j:f:vxh` reads it.

/// What the program says of itself.
pub const USAGE: &str = "Usage: realesrgan-ncnn-vulkan -i infile -o outfile [options]...\n";
/// Options with a value.
const WITH_VALUE: &str = "iostmngjf";
/// Options without one.
const WITHOUT: &str = "vx";

/// A command line, as far as it changes anything here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Folder that is read.
    pub input: String,
    /// Folder that is written.
    pub output: String,
    /// Times larger.
    pub scale: usize,
    /// Side of a tile, source pixels; 0 chooses one.
    pub tile: usize,
    /// Folder of the models.
    pub models: String,
    /// Number of the GPU.
    pub gpu: usize,
    /// `load:proc:save`
    jobs: String,
    /// Of the written files.
    format: String,
}

impl Options {
    /// Reads a command line; `None` where the program says how it is used.
    pub fn parse(args: &[String]) -> Option<Self> {
        let mut options = Self {
            input: String::new(),
            output: String::new(),
            scale: 4,
            tile: 0,
            models: "models".to_owned(),
            gpu: 0,
            jobs: "1:2:2".to_owned(),
            format: "png".to_owned(),
        };
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else { continue };
            if letters == "-" {
                break;
            }
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                if WITHOUT.contains(letter) {
                    continue;
                }
                if !WITH_VALUE.contains(letter) {
                    return None;
                }
                let joined = letters.as_str();
                let value = if joined.is_empty() { rest.next()?.as_str() } else { joined };
                options.set(letter, value);
                break;
            }
        }
        (!options.input.is_empty() && !options.output.is_empty()).then_some(options)
    }

    fn set(&mut self, letter: char, value: &str) {
        match letter {
            'i' => self.input = value.to_owned(),
            'o' => self.output = value.to_owned(),
            's' => self.scale = atoi(value),
            't' => self.tile = atoi(value),
            'm' => self.models = value.to_owned(),
            'g' => self.gpu = atoi(value),
            'j' => self.jobs = value.to_owned(),
            'f' => self.format = value.to_owned(),
            _ => {}
        }
    }

    /// What the program looks at before it looks for files.
    ///
    /// # Errors
    /// What it says.
    pub fn check(&self) -> Result<(), String> {
        if self.tile != 0 && self.tile < 32 {
            return Err("invalid tilesize argument".to_owned());
        }
        if self.jobs.split(':').any(|count| atoi(count) < 1) {
            return Err("invalid thread count argument".to_owned());
        }
        if !["png", "webp", "jpg"].contains(&self.format.as_str()) {
            return Err("invalid format argument".to_owned());
        }
        Ok(())
    }
}

/// C's `atoi`, of what cannot be negative.
fn atoi(text: &str) -> usize {
    let digits: String = text.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Option<Options> {
        Options::parse(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_profiles_command_line_is_read() {
        let read =
            options("-i /a -o /b -s3 -t 100 -m /app/models -n realesr-animevideov3 -g 0 -j 1:1:2").unwrap();
        assert_eq!((read.input.as_str(), read.output.as_str(), read.scale, read.tile), ("/a", "/b", 3, 100));
        assert_eq!(read.check(), Ok(()));
    }

    #[test]
    fn mistakes_are_told() {
        for usage in ["-i a", "-i a -o", "-i a -o b -q", "-h", ""] {
            assert_eq!(options(usage), None, "{usage}");
        }
        for (line, said) in [
            ("-i a -o b -t 16", "invalid tilesize argument"),
            ("-i a -o b -j 0:1:1", "invalid thread count argument"),
            ("-i a -o b -f bmp", "invalid format argument"),
        ] {
            assert_eq!(options(line).unwrap().check(), Err(said.to_owned()));
        }
    }
}
