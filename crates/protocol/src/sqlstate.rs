//! Names of SQLSTATE codes: PostgreSQL sends the code alone, the wire wants both.

/// The condition name of `sqlstate`, as in PostgreSQL's appendix A, for what a subscription can
/// run into; else `unknown`.
pub(crate) fn condition(sqlstate: &str) -> &'static str {
    CONDITIONS
        .iter()
        .find(|(code, _)| *code == sqlstate)
        .map_or("unknown", |(_, name)| name)
}

const CONDITIONS: &[(&str, &str)] = &[
    ("0A000", "feature_not_supported"),
    ("22000", "data_exception"),
    ("22001", "string_data_right_truncation"),
    ("22003", "numeric_value_out_of_range"),
    ("22004", "null_value_not_allowed"),
    ("22007", "invalid_datetime_format"),
    ("22008", "datetime_field_overflow"),
    ("22009", "invalid_time_zone_displacement_value"),
    ("2200B", "escape_character_conflict"),
    ("2200D", "invalid_escape_octet"),
    ("2200M", "invalid_xml_document"),
    ("2200N", "invalid_xml_content"),
    ("22012", "division_by_zero"),
    ("22015", "interval_field_overflow"),
    ("22018", "invalid_character_value_for_cast"),
    ("22019", "invalid_escape_character"),
    ("2201B", "invalid_regular_expression"),
    ("22021", "character_not_in_repertoire"),
    ("22023", "invalid_parameter_value"),
    ("22025", "invalid_escape_sequence"),
    ("22026", "string_data_length_mismatch"),
    ("2202E", "array_subscript_error"),
    ("22030", "duplicate_json_object_key_value"),
    ("22032", "invalid_json_text"),
    ("22P01", "floating_point_exception"),
    ("22P02", "invalid_text_representation"),
    ("22P03", "invalid_binary_representation"),
    ("22P05", "untranslatable_character"),
    ("23514", "check_violation"),
    ("25006", "read_only_sql_transaction"),
    ("42501", "insufficient_privilege"),
    ("42601", "syntax_error"),
    ("42602", "invalid_name"),
    ("42703", "undefined_column"),
    ("42704", "undefined_object"),
    ("42725", "ambiguous_function"),
    ("42804", "datatype_mismatch"),
    ("42809", "wrong_object_type"),
    ("42846", "cannot_coerce"),
    ("42883", "undefined_function"),
    ("42P01", "undefined_table"),
    ("42P17", "invalid_object_definition"),
    ("42P18", "indeterminate_datatype"),
    ("42P21", "collation_mismatch"),
    ("42P22", "indeterminate_collation"),
    ("53200", "out_of_memory"),
    ("54000", "program_limit_exceeded"),
    ("54001", "statement_too_complex"),
    ("57014", "query_canceled"),
    ("P0001", "raise_exception"),
    ("XX000", "internal_error"),
];
