// Numbers and times for readers.

export function number(value) {
  if (typeof value !== "number") return value === null || value === undefined ? "–" : String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text =
    size >= 1e7 || size < 1e-3
      ? value.toExponential(3)
      : Number.isInteger(value)
        ? String(value)
        : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${Math.round(100 * share)} %`);

const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// "3 minutes ago", "in 2 days"; the date where that is far away.
export function when(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1000;
  if (Number.isNaN(seconds)) return "–";
  if (Math.abs(seconds) > 60 * 86400) return iso.slice(0, 10);
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? [];
  return unit ? relative.format(Math.round(seconds / length), unit) : "just now";
}
