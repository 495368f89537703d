//! As much of Python's argparse as the real programs' command lines rest on: unambiguous prefixes, `--flag=value`,
//! negative numbers as values, arguments by place, its messages, exit code 2.

use std::collections::BTreeMap;

/// What an option takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// An integer.
    Int,
    /// A number.
    Float,
    /// Python's `bool(text)`: every text but the empty one is true.
    Bool,
    /// No value.
    Flag,
}

/// A program's command line.
#[derive(Clone, Debug)]
pub struct Program {
    /// Name under which it speaks of itself.
    pub name: &'static str,
    /// Whether the beginning of an option's name is enough.
    pub abbreviations: bool,
    /// What it takes.
    pub options: Vec<Opt>,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opt {
    /// With its two dashes; without them, an argument by place.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What its value must be one of; empty: anything of its kind.
    pub choices: Vec<String>,
    /// It must be there.
    pub required: bool,
}

/// How a command line ended before the program began: what to say, and the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For stdout where the code is 0, else for stderr.
    pub text: String,
    /// 0 for help, 2 for mistakes.
    pub code: u8,
}

/// Options that were given, by name; the last one counts.
pub type Given = BTreeMap<&'static str, String>;

/// Reads a command line.
///
/// # Errors
/// What argparse says where it does not run the program.
pub fn parse(program: &Program, args: &[String]) -> Result<Given, Exit> {
    let fail =
        |text: String| Exit { text: format!("{}{}: error: {text}\n", usage(program), program.name), code: 2 };
    let options = &program.options;
    let mut given = Given::new();
    let mut stray = Vec::new();
    let mut by_place = options.iter().filter(|option| !option.name.starts_with('-'));
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            stray.extend(rest.by_ref().cloned());
            break;
        }
        if is_value(arg) {
            match by_place.next() {
                Some(option) => {
                    check(option, arg).map_err(&fail)?;
                    given.insert(option.name, arg.clone());
                }
                None => stray.push(arg.clone()),
            }
            continue;
        }
        let (name, joined) =
            arg.split_once('=').map_or((arg.as_str(), None), |(name, value)| (name, Some(value)));
        if name == "-h" || (name.len() > 2 && "--help".starts_with(name)) {
            return Err(Exit { text: usage(program), code: 0 });
        }
        let Some(option) = resolve(program, name).map_err(&fail)? else {
            stray.push(arg.clone());
            continue;
        };
        let value = match (&option.kind, joined) {
            (Kind::Flag, None) => "True".to_owned(),
            (Kind::Flag, Some(value)) => {
                return Err(fail(format!("argument {}: ignored explicit argument '{value}'", option.name)));
            }
            (_, Some(value)) => value.to_owned(),
            (_, None) => rest
                .next_if(|next| is_value(next))
                .cloned()
                .ok_or_else(|| fail(format!("argument {}: expected one argument", option.name)))?,
        };
        check(option, &value).map_err(&fail)?;
        given.insert(option.name, value);
    }
    let missing: Vec<&str> =
        options.iter().filter(|o| o.required && !given.contains_key(o.name)).map(|o| o.name).collect();
    if !missing.is_empty() {
        return Err(fail(format!("the following arguments are required: {}", missing.join(", "))));
    }
    if !stray.is_empty() {
        return Err(fail(format!("unrecognized arguments: {}", stray.join(" "))));
    }
    Ok(given)
}

/// Whether an argument is a value: no dash in front, a lone dash, a negative number, or words with a space.
fn is_value(arg: &str) -> bool {
    !arg.starts_with('-') || arg == "-" || arg.parse::<f64>().is_ok() || arg.contains(' ')
}

/// The option of that name, or the only one that begins so.
fn resolve<'a>(program: &'a Program, name: &str) -> Result<Option<&'a Opt>, String> {
    if let Some(exact) = program.options.iter().find(|option| option.name == name) {
        return Ok(Some(exact));
    }
    let short = program.abbreviations && name.starts_with("--");
    let begun: Vec<&Opt> =
        program.options.iter().filter(|option| short && option.name.starts_with(name)).collect();
    match begun.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => {
            let names: Vec<&str> = several.iter().map(|option| option.name).collect();
            Err(format!("ambiguous option: {name} could match {}", names.join(", ")))
        }
    }
}

fn check(option: &Opt, value: &str) -> Result<(), String> {
    let number = value.trim();
    let kind = match option.kind {
        Kind::Int if number.parse::<i64>().is_err() => "int",
        Kind::Float if number.parse::<f64>().is_err() => "float",
        _ if option.choices.is_empty() || option.choices.iter().any(|choice| choice == number) => {
            return Ok(());
        }
        _ => {
            let quote = |choice: &String| {
                if option.kind == Kind::Int { choice.clone() } else { format!("'{choice}'") }
            };
            let choices: Vec<String> = option.choices.iter().map(quote).collect();
            let value = quote(&value.to_owned());
            let list = choices.join(", ");
            return Err(format!("argument {}: invalid choice: {value} (choose from {list})", option.name));
        }
    };
    Err(format!("argument {}: invalid {kind} value: '{value}'", option.name))
}

fn usage(program: &Program) -> String {
    let mut text = format!("usage: {} [-h]", program.name);
    for option in &program.options {
        let value = match (&option.kind, option.choices.is_empty()) {
            (Kind::Flag, _) => String::new(),
            _ if !option.name.starts_with('-') => String::new(),
            (_, true) => format!(" {}", option.name.trim_start_matches('-').to_uppercase()),
            (_, false) => format!(" {{{}}}", option.choices.join(",")),
        };
        let (open, close) = if option.required { ("", "") } else { ("[", "]") };
        text.push_str(&format!(" {open}{}{value}{close}", option.name));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(abbreviations: bool) -> Program {
        let opt = |name, kind, choices: &[&str], required| Opt {
            name,
            kind,
            choices: choices.iter().map(|c| (*c).to_owned()).collect(),
            required,
        };
        let options = vec![
            opt("--input", Kind::Text, &[], true),
            opt("--tile_size", Kind::Int, &[], false),
            opt("--tile_overlap", Kind::Int, &[], false),
            opt("--scale", Kind::Int, &["2", "3", "4"], false),
            opt("--sparse_ratio", Kind::Float, &[], false),
            opt("--tiled_dit", Kind::Bool, &[], false),
            opt("--multi_gpu", Kind::Flag, &[], false),
        ];
        Program { name: "p.py", abbreviations, options }
    }

    fn read(program: &Program, text: &[&str]) -> Result<Given, Exit> {
        parse(program, &text.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    }

    fn line(text: &[&str]) -> Result<Given, Exit> {
        read(&program(true), text)
    }

    #[test]
    fn arguments_by_place_are_read_and_names_in_full_where_the_program_wants_it_so() {
        let mut program = program(false);
        program.options[0].name = "input";
        let given = read(&program, &["--scale", "2", "a.mp4"]).unwrap();
        assert_eq!((given["input"].as_str(), given["--scale"].as_str()), ("a.mp4", "2"));
        for (args, words) in [
            (&["--scale", "2"][..], "the following arguments are required: input"),
            (&["a", "b"], "unrecognized arguments: b"),
            (&["a", "--sca", "2"], "unrecognized arguments: --sca 2"),
        ] {
            let exit = read(&program, args).unwrap_err();
            assert!(exit.text.ends_with(&format!("p.py: error: {words}\n")), "{}", exit.text);
        }
    }

    #[test]
    fn prefixes_joined_values_empty_values_and_negative_numbers_are_read() {
        let given =
            line(&["--in", "a b", "--tile_s=64", "--tile_overlap", "-8", "--tiled_dit", "", "--multi"])
                .unwrap();
        assert_eq!(given["--input"], "a b");
        assert_eq!((given["--tile_size"].as_str(), given["--tile_overlap"].as_str()), ("64", "-8"));
        assert_eq!((given["--tiled_dit"].as_str(), given["--multi_gpu"].as_str()), ("", "True"));
    }

    #[test]
    fn every_mistake_is_exit_2_with_the_words_of_argparse() {
        for (args, words) in [
            (&["--input", "a", "--foo", "1"][..], "unrecognized arguments: --foo 1"),
            (&["--scale", "2"], "the following arguments are required: --input"),
            (
                &["--input", "a", "--tile", "1"],
                "ambiguous option: --tile could match --tile_size, --tile_overlap, --tiled_dit",
            ),
            (&["--input", "a", "--scale", "5"], "argument --scale: invalid choice: 5 (choose from 2, 3, 4)"),
            (&["--input", "a", "--scale", "x"], "argument --scale: invalid int value: 'x'"),
            (&["--input", "a", "--sparse", "x"], "argument --sparse_ratio: invalid float value: 'x'"),
            (&["--input"], "argument --input: expected one argument"),
            (&["--input", "a", "--multi_gpu=1"], "argument --multi_gpu: ignored explicit argument '1'"),
        ] {
            let exit = line(args).unwrap_err();
            assert_eq!(exit.code, 2);
            assert!(exit.text.ends_with(&format!("p.py: error: {words}\n")), "{}", exit.text);
        }
        assert_eq!(line(&["--help"]).unwrap_err().code, 0);
    }
}
