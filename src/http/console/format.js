// Figures as people read them.

const whole = new Intl.NumberFormat("en");
const brief = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat([], {
  year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

const dayAndMinute = new Intl.DateTimeFormat([], { month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", hour12: false });

export const number = (n) => whole.format(n);
export const short = (n) => (n < 10000 ? whole.format(n) : brief.format(n));
export const percent = (share) => {
  const value = share * 100;
  if (value === 0 || value === 100) return `${value}%`;
  return value < 10 ? `${value.toFixed(1)}%` : `${Math.round(value)}%`;
};
export const rate = (perSecond) => {
  if (perSecond === null || perSecond === undefined) return "–";
  return perSecond < 10 && perSecond > 0 ? perSecond.toFixed(1) : short(Math.round(perSecond));
};
export const time = (ms) => clock.format(ms);
export const moment = (ms) => day.format(ms);
export const minute = (ms) => dayAndMinute.format(ms);

/** A span of time in two units at most: 4s, 2m 05s, 3h 10m, 2d 4h. */
export function span(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const pad = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${pad(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${pad(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

/** How long ago, without seconds past the first minute, so that it does not flicker. */
export function ago(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 5) return "now";
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${Math.floor(s / 60) % 60}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

/** JSON in which nothing is unseen or turns the text around it: such characters are escaped, as JSON allows. */
export const json = (value, indent) =>
  JSON.stringify(value, null, indent).replace(
    /[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

export const STATES = { closed: "Closed", open: "Open", half_open: "Half-open" };

export const REASONS = {
  failure_threshold_exceeded: "too many failures in a row",
  error_rate_threshold_exceeded: "the error rate reached its threshold",
  latency_threshold_exceeded: "too many slow calls",
  half_open_failure: "a probe failed",
  timeout_elapsed: "the open time was over, and a probe was claimed",
  probes_succeeded: "enough probes succeeded",
  forced: "an operator forced it",
  force_lifted: "the force ended",
  reset: "an operator reset it",
  disabled: "its policy switched it off",
  flag: "an emergency switch was set",
};

export const reason = (word) => REASONS[word] ?? word;
