//! Operators that the language writes as keywords.

/// The keywords that use an operator of this name, in lower case.
///
/// Source: PostgreSQL 18, src/backend/parser/gram.y, `makeSimpleA_Expr`, and parse_clause.c, `transformJoinUsingClause`.
#[must_use]
pub fn operator_words(operator: &[u8]) -> &'static [&'static str] {
    match operator {
        b"=" => &["nullif", "case", "in", "distinct", "using", "natural", "cycle"],
        b"<>" => &["in", "cycle"],
        b"<" | b"<=" | b">" | b">=" => &["between"],
        b"~~" | b"!~~" => &["like"],
        b"~~*" | b"!~~*" => &["ilike"],
        b"~" | b"!~" => &["similar"],
        _other => &[],
    }
}
