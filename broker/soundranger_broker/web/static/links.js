// Lines from the chosen event to the nodes that heard it.

export class Links {
  constructor(map) {
    this.layer = L.layerGroup().addTo(map);
    this.drawn = "";
  }

  show(event, nodes) {
    const lines = (event?.arrivals ?? [])
      .filter((arrival) => nodes.has(arrival.node))
      .map((arrival) => {
        const node = nodes.get(arrival.node);
        return { ends: [[event.lat, event.lon], [node.lat, node.lon]], used: arrival.used };
      });
    const drawing = JSON.stringify(lines);
    if (drawing === this.drawn) return;
    this.drawn = drawing;
    this.layer.clearLayers();
    for (const { ends, used } of lines) {
      const className = used ? "link" : "link is-unused";
      L.polyline(ends, { pane: "links", interactive: false, className }).addTo(this.layer);
    }
  }
}
