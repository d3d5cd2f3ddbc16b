//! What compaction keeps, and what it refuses.

use super::*;
use proptest::prelude::*;
use serde_json::Value;

fn compacted(text: &str) -> String {
    String::from_utf8(compact(text.as_bytes(), MAX_DEPTH).unwrap().into_owned()).unwrap()
}

fn refused(text: &[u8]) -> (usize, String) {
    let error = compact(text, MAX_DEPTH).unwrap_err();
    (error.byte, error.message)
}

#[test]
fn white_space_goes_and_every_digit_stays() {
    let text = "\r\n{ \"amount\" :\t1250.10 , \"big\": 12345678901234567890123, \"e\": -1.50E+07,\n\"s\": \"a  b\\u0041\", \"l\": [ 1 , [ ] , { } , null , true ] }\n";
    let expected = "{\"amount\":1250.10,\"big\":12345678901234567890123,\"e\":-1.50E+07,\"s\":\"a  b\\u0041\",\"l\":[1,[],{},null,true]}";
    assert_eq!(compacted(text), expected);
}

#[test]
fn a_key_that_is_there_twice_is_refused_at_every_level_and_however_it_is_written() {
    assert_eq!(refused(b"{\"a\":1,\"a\":2}"), (7, "the key `a` is there twice: give it once".to_owned()));
    assert_eq!(refused(b"{\"x\":[{\"a\":1,\"\\u0061\":2}]}").0, 13);
    assert_eq!(compacted("{\"a\":{\"a\":1},\"b\":{\"a\":2}}"), "{\"a\":{\"a\":1},\"b\":{\"a\":2}}");
}

#[test]
fn sixty_four_levels_are_taken_and_one_more_is_refused() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(compacted(&nested(64)), nested(64));
    assert_eq!(refused(nested(65).as_bytes()).0, MAX_DEPTH);
    // Neighbours are on one level.
    assert_eq!(compacted(&format!("[{}1]", "[],".repeat(100))).len(), 303);
    assert_eq!(refused(format!("[[],[],{}]", nested(64)).as_bytes()).0, 70);
    // A bomb ends at the limit, not at the end of the stack.
    assert_eq!(refused("[".repeat(5_000_000).as_bytes()).0, MAX_DEPTH);
}

#[test]
fn bad_utf8_is_refused_with_its_position() {
    let (byte, message) = refused(b"{\"a\":\"\xff\"}");
    assert_eq!(byte, 6);
    assert!(message.contains("not valid UTF-8"), "{message}");
}

#[test]
fn what_is_no_json_is_refused_where_it_stops_being_json() {
    let table: &[(&str, usize, &str)] = &[
        ("", 0, "expected a JSON value, found the end of the text"),
        ("{", 1, "expected a key in double quotes, found the end of the text"),
        ("{'a':1}", 1, "expected a key in double quotes, found `'`"),
        ("{\"a\" 1}", 5, "expected `:` after the key, found `1`"),
        ("{\"a\":1,}", 7, "expected a key in double quotes, found `}`"),
        ("{\"a\":1 \"b\":2}", 7, "expected `,` or `}`, found `\"`"),
        ("[1,]", 3, "expected a JSON value, found `]`"),
        ("[1", 2, "expected `,` or `]`, found the end of the text"),
        ("{\"a\":NaN}", 5, "expected a JSON value, found `N`"),
        ("{\"a\":tru}", 5, "expected a JSON value, found `t`"),
        ("{\"a\":1.}", 7, "expected a digit, found `}`"),
        ("{\"a\":.5}", 5, "expected a JSON value, found `.`"),
        ("{\"a\":-}", 6, "expected a digit, found `}`"),
        ("{\"a\":1e}", 7, "expected a digit, found `}`"),
        ("{\"a\":007}", 5, "a number can't begin with 0: leave it out, or send a string"),
        ("{\"a\":1}{}", 7, "expected the end after the JSON value, found `{`"),
        ("{\"a\":\"b", 7, "expected the closing `\"` of the string that began before, found the end of the text"),
        ("{\"a\":\"b\\", 8, "expected the closing `\"` of the string that began before, found the end of the text"),
        ("{\"a\":\"\n\"}", 6, "a control character in a string: escape it, as in \\n"),
        ("{\"a\":\"\\x\"}", 5, "this string holds an escape that is none, or half of a surrogate pair"),
        ("{\"a\":\"\\ud800\"}", 5, "this string holds an escape that is none, or half of a surrogate pair"),
        ("\u{feff}{}", 0, "expected a JSON value, found `\\u{feff}`"),
    ];
    for (text, byte, message) in table {
        assert_eq!(refused(text.as_bytes()), (*byte, (*message).to_owned()), "{text}");
    }
}

/// JSON with white space wherever it may be, and the same without.
fn spaced() -> impl Strategy<Value = (String, String)> {
    let space = "[ \t\r\n]{0,3}";
    let scalar = prop_oneof![
        "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let leaf = (space, scalar, space).prop_map(|(a, scalar, b)| (format!("{a}{scalar}{b}"), scalar));
    leaf.prop_recursive(5, 40, 6, move |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..5);
        let named = proptest::collection::btree_map(any::<String>(), inner, 0..5);
        prop_oneof![
            (list, space).prop_map(|(items, space)| {
                let (wide, tight): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                let wide = if wide.is_empty() { space } else { wide.join(",") };
                (format!("[{wide}]"), format!("[{}]", tight.join(",")))
            }),
            (named, space).prop_map(|(members, space)| {
                let (wide, tight): (Vec<_>, Vec<_>) = members
                    .into_iter()
                    .map(|(key, (wide, tight))| {
                        let key = serde_json::to_string(&key).unwrap();
                        (format!("{space}{key}{space}:{wide}"), format!("{key}:{tight}"))
                    })
                    .unzip();
                (format!("{{{}}}", wide.join(",")), format!("{{{}}}", tight.join(",")))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn compaction_takes_out_white_space_and_nothing_else((wide, tight) in spaced()) {
        prop_assert_eq!(compacted(&wide), tight);
    }

    #[test]
    fn what_is_taken_is_what_a_json_parser_takes(text in "[\\[\\]{}\",:0-9.eE+\\-\\\\ntrufalse \n]{0,24}") {
        let taken = compact(text.as_bytes(), MAX_DEPTH);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => match taken {
                Ok(taken) => prop_assert_eq!(serde_json::from_slice::<Value>(&taken).unwrap(), value),
                Err(error) => prop_assert!(error.message.contains("twice"), "{}", error.message),
            },
            // A number too big for a float is a number all the same.
            Err(error) if error.to_string().contains("out of range") => {}
            Err(error) => prop_assert!(taken.is_err(), "{text} was taken, though {error}"),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = compact(&bytes, MAX_DEPTH);
    }
}
