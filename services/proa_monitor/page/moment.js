// Times, all in UTC: what happened in New York and what a window is called must agree.

import { element } from "./element.js";

/** `2013-04-02 14:05`; midnight is the date alone. */
export function minute(time) {
  if (!time) return "";
  const clock = time.slice(11, 19);
  return clock === "00:00:00" ? time.slice(0, 10) : `${time.slice(0, 10)} ${clock.slice(0, 5)}`;
}

/** `3 min ago`, between two RFC 3339 times; a date when it is longer than two weeks. */
export function ago(time, now) {
  if (!time) return "never";
  const age = (Date.parse(now) - Date.parse(time)) / 1000;
  if (age < -60) return minute(time);
  if (age < 90) return "just now";
  if (age < 5400) return `${Math.round(age / 60)}\u202fmin ago`;
  if (age < 129_600) return `${Math.round(age / 3600)}\u202fh ago`;
  return age < 14 * 86_400 ? `${Math.round(age / 86_400)} days ago` : time.slice(0, 10);
}

/** A `<time>` that shows `text` and, on a longer look, the whole moment. */
export function moment(time, text = minute(time)) {
  return element("time", { datetime: time, title: `${minute(time)} UTC` }, text);
}

/** A window's name for people: `2013-04-02`, `2013-04-02 14:00`. */
export function windowName(name) {
  const [first, length] = (name ?? "").split("/P");
  if (length) return `${length.replace("D", " days")} from ${first}`;
  return name && name.length > 10 ? `${name.slice(0, 10)} ${name.slice(11)}:00` : name;
}
