//! Parameters and results as text, whatever their type.
//!
//! Parameters are bound in PostgreSQL's text format, so the server's own input functions read them. tokio-postgres asks for
//! results in binary, so the types that keys and captured results have are read here; others must be cast to text.

use std::error::Error;
use std::fmt::Write;

use bytes::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type};

/// A parameter of any type, in text form; none is NULL.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub Option<&'a str>);

impl ToSql for Text<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

/// Whether [`read_text`] knows the type.
pub fn readable(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Domain(base) => readable(base),
        Kind::Enum(_) => true,
        _ => matches!(
            *ty,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
                | Type::TEXT
                | Type::VARCHAR
                | Type::BPCHAR
                | Type::NAME
                | Type::UNKNOWN
                | Type::UUID
                | Type::JSON
                | Type::JSONB
                | Type::DATE
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
                | Type::VOID
        ),
    }
}

/// A value of a result as PostgreSQL would print it (ISO dates, UTC), NULL as none. A type that isn't [`readable`] is none too.
pub fn read_text(row: &tokio_postgres::Row, column: usize) -> Option<String> {
    row.try_get::<_, Option<Raw>>(column).ok().flatten().map(|raw| raw.0)
}

struct Raw(String);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        if let Kind::Domain(base) = ty.kind() {
            return Raw::from_sql(base, raw);
        }
        let text = match *ty {
            Type::BOOL => if bool::from_sql(ty, raw)? { "t" } else { "f" }.to_string(),
            Type::INT2 => i16::from_sql(ty, raw)?.to_string(),
            Type::INT4 => i32::from_sql(ty, raw)?.to_string(),
            Type::INT8 => i64::from_sql(ty, raw)?.to_string(),
            Type::OID => u32::from_sql(ty, raw)?.to_string(),
            Type::FLOAT4 => f32::from_sql(ty, raw)?.to_string(),
            Type::FLOAT8 => f64::from_sql(ty, raw)?.to_string(),
            Type::NUMERIC => numeric(raw).ok_or("a numeric that is cut short")?,
            Type::UUID => uuid(raw),
            // one version byte before the text
            Type::JSONB => std::str::from_utf8(raw.get(1..).unwrap_or_default())?.to_string(),
            Type::DATE => date(i64::from(i32::from_be_bytes(raw.try_into()?))),
            Type::TIMESTAMP => timestamp(i64::from_be_bytes(raw.try_into()?), ""),
            Type::TIMESTAMPTZ => timestamp(i64::from_be_bytes(raw.try_into()?), "+00"),
            _ => std::str::from_utf8(raw)?.to_string(),
        };
        Ok(Raw(text))
    }

    fn accepts(ty: &Type) -> bool {
        readable(ty)
    }
}

fn uuid(raw: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in raw.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The wire form: four 16-bit numbers (digit groups, weight of the first, sign, scale), then groups in base 10000
/// (`numeric_send` in PostgreSQL's numeric.c).
fn numeric(raw: &[u8]) -> Option<String> {
    let word = |i: usize| Some(u16::from_be_bytes(raw.get(2 * i..2 * i + 2)?.try_into().ok()?));
    let groups = usize::from(word(0)?);
    let weight = i32::from(word(1)? as i16);
    let scale = usize::from(word(3)?);
    let sign = match word(2)? {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Some("NaN".into()),
        0xD000 => return Some("Infinity".into()),
        _ => return Some("-Infinity".into()),
    };
    let group = |i: i32| match usize::try_from(i) {
        Ok(i) if i < groups => word(4 + i),
        _ => Some(0),
    };
    let mut text = sign.to_string();
    match weight {
        0.. => {
            let _ = write!(text, "{}", group(0)?);
            for i in 1..=weight {
                let _ = write!(text, "{:04}", group(i)?);
            }
        }
        _ => text.push('0'),
    }
    if scale > 0 {
        let mut fraction = String::new();
        let mut i = weight + 1;
        for _ in weight + 1..0 {
            fraction.push_str("0000");
        }
        i = i.max(0);
        while fraction.len() < scale {
            let _ = write!(fraction, "{:04}", group(i)?);
            i += 1;
        }
        text.push('.');
        text.push_str(&fraction[..scale]);
    }
    Some(text)
}

/// Days since 2000-01-01.
fn date(days: i64) -> String {
    if days == i64::from(i32::MAX) {
        return "infinity".into();
    }
    if days == i64::from(i32::MIN) {
        return "-infinity".into();
    }
    let (date, era) = civil(days);
    date + era
}

/// Year, month and day, and ` BC` for a year before the first. The calendar is Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (String, &'static str) {
    let z = days + 10_957 + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        1.. => (format!("{year:04}-{month:02}-{day:02}"), ""),
        _ => (format!("{:04}-{month:02}-{day:02}", 1 - year), " BC"),
    }
}

/// Microseconds since 2000-01-01, with what stands for the zone.
fn timestamp(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => return "infinity".into(),
        i64::MIN => return "-infinity".into(),
        _ => {}
    }
    const DAY: i64 = 86_400_000_000;
    let rest = micros.rem_euclid(DAY);
    let seconds = rest / 1_000_000;
    let (date, era) = civil(micros.div_euclid(DAY));
    let mut text = format!(
        "{date} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let fraction = rest % 1_000_000;
    if fraction > 0 {
        let _ = write!(text, ".{fraction:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text + zone + era
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times() {
        for (days, text) in [
            (0, "2000-01-01"),
            (59, "2000-02-29"),
            (60, "2000-03-01"),
            (-1, "1999-12-31"),
            (11_109, "2030-06-01"),
            (-730_120, "0001-12-31 BC"),
        ] {
            assert_eq!(date(days), text);
        }
        assert_eq!(timestamp(-1, ""), "1999-12-31 23:59:59.999999");
        assert_eq!(timestamp(3_600_000_000 + 500_000, "+00"), "2000-01-01 01:00:00.5+00");
        assert_eq!(timestamp(i64::MAX, "+00"), "infinity");
        assert_eq!(timestamp(-730_120 * 86_400_000_000, "+00"), "0001-12-31 00:00:00+00 BC");
    }

    #[test]
    fn numerics() {
        let wire = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<u8>>();
        for (words, text) in [
            (&[0, 0, 0, 0][..], "0"),
            (&[1, 0, 0, 0, 7], "7"),
            (&[2, 0, 0x4000, 2, 12, 3400], "-12.34"),
            (&[2, 1, 0, 0, 1, 2], "10002"),
            (&[1, 1, 0, 1, 1], "10000.0"),
            (&[1, 0xFFFE, 0, 8, 12], "0.00000012"),
            (&[0, 0, 0xC000, 0], "NaN"),
        ] {
            assert_eq!(numeric(&wire(words)).as_deref(), Some(text));
        }
        assert_eq!(numeric(&wire(&[2, 0, 0, 4, 1])), None);
    }
}
