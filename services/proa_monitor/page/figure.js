// Numbers as people read them: with their unit, and in words when there is none.

import { element } from "./element.js";

export const UNKNOWN = "not enough data";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** `1,234`, and `1.23M` from a hundred thousand on. */
export function count(value) {
  if (missing(value)) return UNKNOWN;
  return Math.abs(value) < 100_000 ? whole.format(value) : compact.format(value);
}

/** Three significant digits, or three places below 1 so that columns align. */
export function number(value) {
  if (missing(value)) return UNKNOWN;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 100_000 || size < 0.0001) return value.toExponential(1).replace("e", "\u202fe");
  if (size >= 100) return whole.format(value);
  if (size >= 1) return String(Number(value.toPrecision(3)));
  return size < 0.01 ? value.toPrecision(2) : value.toFixed(3);
}

/** A share as per cent. */
export function percent(value) {
  if (missing(value)) return UNKNOWN;
  const share = 100 * value;
  if (share === 0) return "0\u202f%";
  if (Math.abs(share) < 0.1) return "<\u202f0.1\u202f%";
  return `${share.toFixed(Math.abs(share) < 10 ? 1 : 0)}\u202f%`;
}

/** Seconds in the unit that fits. */
export function seconds(value) {
  if (missing(value)) return UNKNOWN;
  if (value < 1) return `${number(value * 1000)}\u202fms`;
  if (value < 120) return `${number(value)}\u202fs`;
  if (value < 7200) return `${number(value / 60)}\u202fmin`;
  return value < 172_800 ? `${number(value / 3600)}\u202fh` : `${number(value / 86_400)}\u202fd`;
}

/** Millionths of the currency. */
export function money(micro, currency) {
  if (missing(micro)) return UNKNOWN;
  const amount = micro / 1e6;
  const digits = amount === 0 || amount >= 1 ? 2 : 2 - Math.floor(Math.log10(amount));
  return `${amount.toFixed(Math.min(digits, 6))}\u202f${currency}`;
}

/** A change in units of what is ordinary. */
export function times(value) {
  return missing(value) ? UNKNOWN : `${value.toFixed(value < 10 ? 2 : 0)}\u202f×`;
}

/** A figure of any unit that the monitor names. */
export function measured(value, unit) {
  if (missing(value)) return UNKNOWN;
  if (unit === "share") return percent(value);
  if (unit === "seconds") return seconds(value);
  return unit && unit !== "ratio" ? `${number(value)}\u202f${unit}` : number(value);
}

const SHORT = { auc: "AUC", roc_auc: "ROC AUC", brier: "Brier score", ece: "ECE", mae: "MAE", rmse: "RMSE" };

/** A metric's name for people. */
export function metricName(name) {
  return SHORT[name] ?? name.replaceAll("_", " ");
}

/** Whether there is no number. */
export function missing(value) {
  return value === null || value === undefined || !Number.isFinite(value);
}

/** A text that is soft when it says that nothing is known. */
export function shown(text, name = "span") {
  return element(name, { class: text === UNKNOWN ? "unknown" : "figure" }, text);
}
