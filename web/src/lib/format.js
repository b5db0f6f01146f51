/** Numbers and times as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (n) => plain.format(n);

/** 12 -> "12 %", 3.21 -> "3.2 %", 0.04 -> "< 0.1 %". Takes a share of 1. */
export function percent(share) {
  const value = share * 100;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value >= 10 && value < 99.95 ? Math.round(value) : Number(value.toFixed(1))} %`;
}

export function bytes(n) {
  if (n == null) return "";
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, n)) / 3));
  const value = n / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

/** 1,540,000 -> "1.5 M". Three digits at most. */
export function short(n) {
  const units = ["", " k", " M", " B", " T"];
  const power = n < 1000 ? 0 : Math.min(4, Math.floor(Math.log10(n) / 3));
  const value = n / 1000 ** power;
  return `${Number(value.toPrecision(value >= 100 ? 3 : 2))}${units[power]}`;
}

/** A number with the digits that matter, for axes and tables. */
export function figure(n) {
  if (n == null || !Number.isFinite(n)) return "–";
  if (n !== 0 && (Math.abs(n) < 1e-3 || Math.abs(n) >= 1e7)) return n.toExponential(2);
  if (Number.isInteger(n)) return plain.format(n);
  return String(Number(n.toPrecision(4)));
}

const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** "2 minutes ago". Takes milliseconds, seconds or a text that Date understands. */
export function ago(when) {
  const time = typeof when === "string" ? Date.parse(when) : when < 1e11 ? when * 1000 : when;
  const seconds = (time - Date.now()) / 1000;
  for (const [unit, size] of [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return "just now";
}
