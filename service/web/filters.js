// The form of filters: tags, dates, and the order of the library.

import * as address from "./address.js";
import { byId } from "./element.js";

export const NO_FILTERS = { tags: [], from: "", to: "", order: "" };

export function startFilters() {
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", () => {
    const tags = byId("filter-tags").value.split(",").map((tag) => tag.trim());
    const [from, to, order] = ["filter-from", "filter-to", "filter-order"].map((id) => byId(id).value);
    address.go({ tags: tags.filter(Boolean), from, to, order, open: "" });
  });
  byId("filter-clear").addEventListener("click", () => address.go(NO_FILTERS));
}

// Shows the filters of a view.
export function showFilters(view) {
  byId("filter-tags").value = view.tags.join(", ");
  byId("filter-from").value = view.from;
  byId("filter-to").value = view.to;
  byId("filter-order").value = view.order;
  byId("filter-clear").hidden = !isFiltered(view);
  if (isFiltered(view)) byId("filter-box").open = true;
}

// Whether the filters leave pictures out.
export const isNarrowed = (view) => Boolean(view.tags.length || view.from || view.to);

const isFiltered = (view) => isNarrowed(view) || Boolean(view.order);
