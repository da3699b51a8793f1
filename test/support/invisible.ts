// Characters that are invisible, or that look like a space without being one.

export const INVISIBLE: readonly string[] = [
  0x00a0, // no-break space
  0x00ad, // soft hyphen
  0x034f, // combining grapheme joiner
  0x061c, // Arabic letter mark
  0x115f, // Hangul choseong filler
  0x1160, // Hangul jungseong filler
  0x1680, // Ogham space mark, white space
  0x17b4, // Khmer vowel inherent aq
  0x180b, // Mongolian free variation selector
  0x2003, // em space
  0x200b, // zero width space
  0x2028, // line separator
  0x202e, // right-to-left override
  0x202f, // narrow no-break space
  0x2060, // word joiner
  0x2065, // unassigned, default-ignorable
  0x2800, // Braille blank
  0x3000, // ideographic space
  0x3164, // Hangul filler
  0xfe00, // variation selector
  0xfe0f, // variation selector
  0xfeff, // zero width no-break space
  0xffa0, // halfwidth Hangul filler
  0x1bca0, // shorthand format letter overlap
  0x1d173, // musical symbol begin beam
  0xe0001, // language tag
  0xe0100, // variation selector supplement
].map((code) => String.fromCodePoint(code));
