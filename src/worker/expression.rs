//! ffmpeg expressions that give each picture its own value.

/// An expression with value `values[N]`: a balanced tree of comparisons, so that a picture costs as many steps as the
/// number of pictures has bits. `0` for no values.
pub fn by_number(values: &[i64]) -> String {
    let mut text = String::new();
    write(values, 0, &mut text);
    text
}

fn write(values: &[i64], offset: usize, text: &mut String) {
    match values {
        [] => text.push('0'),
        [only] => text.push_str(&only.to_string()),
        _ => {
            let (left, right) = values.split_at(values.len() / 2);
            let border = offset.saturating_add(left.len());
            text.push_str(&format!("if(lt(N,{border}),"));
            write(left, offset, text);
            text.push(',');
            write(right, border, text);
            text.push(')');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_balanced() {
        assert_eq!(by_number(&[]), "0");
        assert_eq!(by_number(&[5]), "5");
        assert_eq!(by_number(&[0, 7, -9]), "if(lt(N,1),0,if(lt(N,2),7,-9))");
        let deep = by_number(&(0..30_000).collect::<Vec<_>>());
        let (mut depth, mut most) = (0, 0);
        for c in deep.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            most = most.max(depth);
        }
        assert!(most <= 31, "{most}");
    }
}
