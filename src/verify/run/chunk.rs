//! The ranges of a key in which a large table is walked.

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::board::Range;
use super::look::Trouble;
use crate::verify::Chunk;

/// More would only cost round trips.
const RANGES_MAX: u64 = 10_000;
/// Of a row, where the server has not counted any: a narrow one.
const ROW_BYTES: i64 = 50;

/// Asks for the key's bounds, and cuts what is between.
pub(super) async fn ranges(client: &Client, chunk: &Chunk) -> Result<Vec<Range>, Trouble> {
    // what the server estimates of the table and its partitions; quote_ident keeps the names names
    let about = "SELECT r::regclass::text, quote_ident($2), rows, bytes
         FROM (SELECT to_regclass($1) AS r) AS named, LATERAL (
            SELECT sum(reltuples) FILTER (WHERE reltuples > 0)::int8 AS rows, sum(pg_relation_size(c.oid))::int8 AS bytes
            FROM pg_catalog.pg_class AS c
            WHERE c.oid = r OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree(r))) AS size";
    let row = client
        .query_typed_one(about, &[(&chunk.relation, Type::TEXT), (&chunk.key, Type::TEXT)])
        .await?;
    let Some(relation) = row.try_get::<_, Option<String>>(0)? else {
        return Err(Trouble::Said(format!(
            "there is no relation {} to walk",
            chunk.relation
        )));
    };
    let key: String = row.try_get(1)?;
    let (rows, bytes): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
    let bounds = format!("SELECT min({key})::int8, max({key})::int8 FROM {relation}");
    let row = client.query_typed_one(&bounds, &[]).await?;
    let (Some(min), Some(max)) = (row.try_get::<_, Option<i64>>(0)?, row.try_get::<_, Option<i64>>(1)?) else {
        return Ok(Vec::new());
    };
    if max == i64::MAX {
        return Err(Trouble::Said(format!(
            "the largest {} has no number after it",
            chunk.key
        )));
    }
    let rows = rows.unwrap_or_else(|| bytes.unwrap_or_default() / ROW_BYTES);
    Ok(cut(min, max, rows.unsigned_abs(), chunk.rows))
}

/// Ranges of equal width from `min` to `max`, with about so many rows in each where keys are evenly spread.
fn cut(min: i64, max: i64, rows: u64, rows_each: u64) -> Vec<Range> {
    let span = i128::from(max) - i128::from(min) + 1;
    let count = rows.div_ceil(rows_each.max(1)).clamp(1, RANGES_MAX);
    let count = i128::from(count).min(span);
    let at = |i: i128| (i128::from(min) + span * i / count) as i64;
    (0..count)
        .map(|i| Range {
            nth: i as usize,
            from: at(i),
            to: at(i + 1),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_touch_and_cover_all_keys() {
        for (min, max, rows, each, count) in [
            (1, 10, 10, 3, 4),
            (1, 1, 1_000, 1, 1),
            (-5, 5, 0, 10, 1),
            (i64::MIN, i64::MAX - 1, 1_000, 100, 10),
            (1, 3, 1_000_000, 1, 3),
            (1, i64::MAX - 1, u64::MAX, 1, RANGES_MAX as usize),
        ] {
            let ranges = cut(min, max, rows, each);
            assert_eq!(ranges.len(), count);
            assert_eq!((ranges[0].from, ranges[count - 1].to), (min, max + 1));
            assert!(ranges.windows(2).all(|pair| pair[0].to == pair[1].from));
            assert!(ranges.iter().all(|range| range.from < range.to));
        }
    }
}
