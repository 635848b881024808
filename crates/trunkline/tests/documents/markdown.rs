//! As much Markdown as our documents use: links, headings, and the words in them.

/// The targets of the links and pictures in `text`; what stands in code is none.
pub(crate) fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for paragraph in prose(text).split("\n\n") {
        let outside: String = paragraph.split('`').step_by(2).collect();
        for after in outside.split("](").skip(1) {
            links.extend(after.split_once(')').map(|(target, _)| target.to_owned()));
        }
    }
    links
}

/// The code spans in `text`.
pub(crate) fn spans(text: &str) -> Vec<String> {
    let text = prose(text);
    let spans = text.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2));
    spans.map(str::to_owned).collect()
}

/// The words of the code in `text`, in spans and in blocks, without the punctuation around them.
pub(crate) fn code_words(text: &str) -> Vec<String> {
    let lines = code_lines(text);
    let words = lines.iter().flat_map(|line| line.split_whitespace()).map(trimmed);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The code in `text`: each span, and each line of a block with those that continue it after a backslash.
pub(crate) fn code_lines(text: &str) -> Vec<String> {
    let fenced = fences(text).into_iter().filter(|(_, is_code)| *is_code).map(|(line, _)| line);
    let indented = text.lines().filter(|line| line.starts_with("    "));
    let mut lines = spans(text).into_iter().map(|span| span.replace('\n', " ")).collect::<Vec<_>>();
    let mut continues = false;
    for line in fenced.chain(indented).map(str::trim) {
        let part = line.strip_suffix('\\');
        match lines.last_mut() {
            Some(before) if continues => *before = format!("{before} {}", part.unwrap_or(line)),
            _ => lines.push(part.unwrap_or(line).to_owned()),
        }
        continues = part.is_some();
    }
    lines
}

/// The blocks of this language in `text`.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_wanted = false;
    for (line, is_code) in fences(text) {
        match line.trim_start().strip_prefix("```") {
            Some(word) => {
                is_wanted = is_code && word.trim() == language;
                if is_wanted {
                    blocks.push(String::new());
                }
            }
            None if is_wanted => {
                if let Some(block) = blocks.last_mut() {
                    block.push_str(line);
                    block.push('\n');
                }
            }
            None => {}
        }
    }
    blocks
}

/// The blocks in `text` that are indented, without their indentation.
pub(crate) fn indented_blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut is_inside = false;
    for (line, is_fenced) in fences(text) {
        let code = if line.trim().is_empty() { is_inside.then_some("") } else { line.strip_prefix("    ") };
        let code = code.filter(|_| !is_fenced);
        match (code, blocks.last_mut()) {
            (Some(code), Some(block)) if is_inside => {
                block.push_str(code);
                block.push('\n');
            }
            (Some(code), _) => blocks.push(format!("{code}\n")),
            (None, _) => {}
        }
        is_inside = code.is_some();
    }
    blocks.into_iter().map(|block| format!("{}\n", block.trim_end())).collect()
}

/// The anchors of the headings, as the usual renderers make them.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let headings = fences(text).into_iter().filter(|(line, is_code)| !is_code && line.starts_with('#'));
    headings.map(|(line, _)| anchor(line.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// `text` without its fenced blocks.
fn prose(text: &str) -> String {
    let lines = fences(text).into_iter().filter(|(_, is_code)| !is_code);
    lines.map(|(line, _)| format!("{line}\n")).collect()
}

/// Every line, and whether it belongs to a fenced block.
fn fences(text: &str) -> Vec<(&str, bool)> {
    let mut is_inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_fence = line.trim_start().starts_with("```");
        lines.push((line, is_inside || is_fence));
        is_inside ^= is_fence;
    }
    lines
}

/// `word` without quotes, brackets around it, and the end of its sentence.
fn trimmed(word: &str) -> &str {
    word.trim_matches(|c| "\"'(),;:|[]".contains(c)).trim_end_matches('.')
}

#[test]
fn links_in_code_are_none() {
    let text = "see [`a`](b.md#c) and ![d](e.svg), not `f](g)`\n```\n[h](i)\n```\n";
    assert_eq!(links(text), ["b.md#c", "e.svg"]);
}

#[test]
fn words_of_code_come_from_spans_and_blocks() {
    let text = "run `make all`, (`src/{a,b}`)\n\n    ./x.sh 20\n\n```sh\ncat y\n```\nplain/word\n";
    assert_eq!(code_words(text), ["make", "all", "src/{a,b}", "```sh", "cat", "y", "```", "./x.sh", "20"]);
}

#[test]
fn blocks_are_those_of_the_language() {
    let text = "```toml\na = 1\n\n[b]\n```\n```sh\nc\n```\n```toml\nd = 2\n```\n";
    assert_eq!(blocks(text, "toml"), ["a = 1\n\n[b]\n", "d = 2\n"]);
}

#[test]
fn indented_blocks_end_with_their_indentation() {
    let text = "a\n\n    b\n      c\n\n    d\n\ne\n    f\n```\n    g\n```\n\n    h\n";
    assert_eq!(indented_blocks(text), ["b\n  c\n\nd\n", "f\n", "h\n"]);
}

#[test]
fn a_line_of_code_ends_without_a_backslash() {
    let text = "run `a\nb`\n\n    c \\\n        -d\n    e\n";
    assert_eq!(code_lines(text), ["a b", "c  -d", "e"]);
}

#[test]
fn an_anchor_is_the_heading_in_lower_case() {
    assert_eq!(anchors("# `[auth]`: Who?\n```\n# no\n```\n## 1 two\n"), ["auth-who", "1-two"]);
}
