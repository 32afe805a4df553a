//! A picture of the sections: one letter for each pageblock of 2 MiB.

use zonal_stats::{PAGE_SIZE, Pageblock, Section, SectionKind, Snapshot};

use crate::size::compact;

/// Pages of a pageblock.
const PAGES: u64 = 512;

/// What a pageblock holds most of. Capital letters: more than half of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Content {
    Slab,
    Large,
    Cache,
    Warm,
    #[default]
    Cold,
    Uncommitted,
}

impl Content {
    pub(crate) const ALL: [Content; 6] = [
        Content::Slab,
        Content::Large,
        Content::Cache,
        Content::Warm,
        Content::Cold,
        Content::Uncommitted,
    ];

    pub(crate) fn letter(self) -> char {
        match self {
            Content::Slab => 's',
            Content::Large => 'l',
            Content::Cache => 'c',
            Content::Warm => 'f',
            Content::Cold => '-',
            Content::Uncommitted => '.',
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Content::Slab => "slabs",
            Content::Large => "large",
            Content::Cache => "caches",
            Content::Warm => "free",
            Content::Cold => "given back",
            Content::Uncommitted => "uncommitted",
        }
    }

    /// One of the ANSI colours, 30 to 37 or 90.
    pub(crate) fn colour(self) -> u8 {
        match self {
            Content::Slab => 32,
            Content::Large => 36,
            Content::Cache => 35,
            Content::Warm => 33,
            Content::Cold | Content::Uncommitted => 90,
        }
    }
}

/// A piece of a line that has one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// None for plain text.
    pub(crate) content: Option<Content>,
}

impl Piece {
    fn plain(text: String) -> Self {
        Self { text, content: None }
    }
}

/// Lines of pieces that show all sections, at most `width` columns wide.
pub(crate) fn lines(snapshot: &Snapshot, width: usize) -> Vec<Vec<Piece>> {
    let mut lines = Vec::new();
    for section in snapshot.sections() {
        lines.push(vec![Piece::plain(title(section))]);
        if !matches!(section.kind(), SectionKind::HugeBlock | SectionKind::HugeCached) {
            rows(snapshot, section, width, &mut lines);
        }
    }
    if snapshot.nr_sections_left_out > 0 {
        let text =
            format!("and {} more, for which there was no room", snapshot.nr_sections_left_out);
        lines.push(vec![Piece::plain(text)]);
    }
    lines
}

/// What the letters mean; fits in a line of 80.
pub(crate) fn legend() -> Vec<Piece> {
    let mut pieces = vec![Piece::plain("2 MiB each: ".into())];
    for content in Content::ALL {
        pieces.push(Piece { text: content.letter().into(), content: Some(content) });
        pieces.push(Piece::plain(format!(" {}  ", content.meaning())));
    }
    pieces
}

fn title(section: &Section) -> String {
    let bytes = |pages| compact(pages * PAGE_SIZE);
    format!(
        "node {}  {:<11} {:#014x}  {:>5}, committed {}, resident {}",
        section.node,
        section.kind().name(),
        section.start,
        bytes(section.nr_pages),
        bytes(section.nr_committed),
        bytes(section.nr_resident)
    )
}

/// Rows of a power of two of pageblocks, each with its offset in the section.
fn rows(snapshot: &Snapshot, section: &Section, width: usize, lines: &mut Vec<Vec<Piece>>) {
    const LABEL: usize = 8;
    let room = width.saturating_sub(LABEL).max(8);
    let row = 1 << room.ilog2();
    let blocks = snapshot.pageblocks(section);
    for (i, blocks) in blocks.chunks(row).enumerate() {
        let first = (i * row) as u64 * PAGES;
        let mut pieces =
            vec![Piece::plain(format!("{:>6}  ", format!("+{}", compact(first * PAGE_SIZE))))];
        for (j, block) in blocks.iter().enumerate() {
            let is_committed = first + j as u64 * PAGES < section.nr_committed;
            let (content, letter) = if is_committed {
                judge(block)
            } else {
                (Content::Uncommitted, Content::Uncommitted.letter())
            };
            match pieces.last_mut() {
                Some(piece) if piece.content == Some(content) => piece.text.push(letter),
                _ => pieces.push(Piece { text: letter.into(), content: Some(content) }),
            }
        }
        lines.push(pieces);
    }
}

/// What there is most of. Pages in use come before free ones: a block with a single live page
/// cannot go back as a whole, and that is what the picture is for.
fn judge(block: &Pageblock) -> (Content, char) {
    let uses =
        [(block.slab, Content::Slab), (block.large, Content::Large), (block.pcp, Content::Cache)];
    let (pages, content) = uses.into_iter().max_by_key(|&(pages, _)| pages).unwrap_or_default();
    let (pages, content) = if pages > 0 {
        (pages, content)
    } else if block.free_resident > 0 {
        (block.free_resident, Content::Warm)
    } else {
        return (Content::Cold, Content::Cold.letter());
    };
    let letter = content.letter();
    let is_full = u64::from(pages) > PAGES / 2;
    (content, if is_full { letter.to_ascii_uppercase() } else { letter })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[Vec<Piece>]) -> Vec<String> {
        let line = |line: &Vec<Piece>| line.iter().map(|piece| piece.text.as_str()).collect();
        lines.iter().map(line).collect()
    }

    #[test]
    fn each_pageblock_is_a_letter() {
        let mut snapshot = Box::<Snapshot>::default();
        let blocks = [
            Pageblock { slab: 500, free: 12, ..Pageblock::default() },
            Pageblock { slab: 1, free: 511, free_resident: 511, ..Pageblock::default() },
            Pageblock { large: 256, free: 256, ..Pageblock::default() },
            Pageblock { large: 257, slab: 255, ..Pageblock::default() },
            Pageblock { pcp: 8, ..Pageblock::default() },
            Pageblock { free: 512, free_resident: 512, ..Pageblock::default() },
            Pageblock { free: 512, ..Pageblock::default() },
            Pageblock { free: 512, free_resident: 512, ..Pageblock::default() },
        ];
        snapshot.pageblocks[..8].copy_from_slice(&blocks);
        (snapshot.nr_sections, snapshot.nr_pageblocks) = (1, 8);
        snapshot.sections[0] = Section {
            nr_pages: 8 * PAGES,
            nr_committed: 7 * PAGES,
            nr_pageblocks: 8,
            ..Section::default()
        };
        let drawn = text(&lines(&snapshot, 80));
        assert!(drawn[0].starts_with("node 0  base"), "{drawn:?}");
        assert_eq!(drawn[1], "    +0  SslLcF-.");
        // Narrow: rows are a power of two, and say where they begin.
        assert_eq!(text(&lines(&snapshot, 1)).len(), 2);
    }

    #[test]
    fn huge_blocks_are_one_line_and_what_is_left_out_is_said() {
        let mut snapshot = Box::<Snapshot>::default();
        snapshot.nr_sections = 1;
        snapshot.sections[0].kind = SectionKind::HugeBlock as u64;
        snapshot.nr_sections_left_out = 3;
        let drawn = text(&lines(&snapshot, 80));
        assert_eq!(drawn.len(), 2);
        assert!(drawn[0].contains("huge-block") && drawn[1].contains("3 more"), "{drawn:?}");
    }
}
