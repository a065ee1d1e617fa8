// What the page shows, as its address says: collection, search, filters, order, opened picture.

const SINGLE = ["collection", "q", "like", "from", "to", "order", "open"];

let changed = () => {};

// `listener` is called with the view whenever the address changes, by the page or the back button.
export function onChange(listener) {
  changed = () => listener(view());
  window.addEventListener("popstate", changed);
}

export function view() {
  const query = new URLSearchParams(location.search);
  const single = SINGLE.map((name) => [name, query.get(name) ?? ""]);
  return { ...Object.fromEntries(single), tags: query.getAll("tag") };
}

export function addressOf(shown) {
  const query = new URLSearchParams();
  for (const name of SINGLE) if (shown[name]) query.set(name, shown[name]);
  for (const tag of shown.tags) query.append("tag", tag);
  return query.size ? `?${query}` : location.pathname;
}

// Changes members of the view, as a new entry of the browser's history or in place of the present one.
export function go(changes, { replace = false } = {}) {
  const address = addressOf({ ...view(), ...changes });
  if (replace) history.replaceState(history.state, "", address);
  else history.pushState({ opened: Boolean(changes.open) }, "", address);
  changed();
}

// Goes to an address that `addressOf` made.
export function goTo(address) {
  history.pushState({}, "", address);
  changed();
}

// Leaves an opened picture by the way that the back button takes, so that it is not opened again by it.
export function closePicture() {
  if (history.state?.opened) history.back();
  else go({ open: "" }, { replace: true });
}
