// viewer.html of one scan: niivue shows the volumes that lie in the page as gzip-compressed NIfTI, base64.
// Places are fractions of the volume: towards the patient's left (0), front (1) and top (2).
"use strict";
(() => {
  const { Niivue, NVImage, SLICE_TYPE, DRAG_MODE } = niivue;
  const find = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const scan = JSON.parse(find("scan").textContent);
  const [firstSlice, sliceStep, sliceCount] = scan.slices;
  const AXIAL = 2; // axis of the slices
  const TRANSLUCENT_BELOW_MIN = 1; // colormap type of niivue: opacity (value / cal_min)^2
  const AXES = { planes: AXIAL, axial: AXIAL, coronal: 1, sagittal: 0, render: AXIAL };
  const PLANES = {
    wide: [
      { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 0.62, 1] },
      { sliceType: SLICE_TYPE.CORONAL, position: [0.62, 0, 0.38, 0.5] },
      { sliceType: SLICE_TYPE.SAGITTAL, position: [0.62, 0.5, 0.38, 0.5] },
    ],
    tall: [
      { sliceType: SLICE_TYPE.AXIAL, position: [0, 0, 1, 0.62] },
      { sliceType: SLICE_TYPE.CORONAL, position: [0, 0.62, 0.5, 0.38] },
      { sliceType: SLICE_TYPE.SAGITTAL, position: [0.5, 0.62, 0.5, 0.38] },
    ],
  };
  let view = "planes";
  let region = -1;

  const nv = new Niivue({
    isRadiologicalConvention: true,
    showAllOrientationMarkers: true,
    fontColor: [1, 0.8, 0.25, 1],
    crosshairColor: [0.55, 0.9, 1, 0.7],
    crosshairWidth: 0.6,
    crosshairWidthUnit: "mm",
    crosshairGap: 14,
    measureLineColor: [1, 0.85, 0.3, 1],
    measureTextColor: [1, 0.85, 0.3, 1],
    measureTextHeight: 0.07,
    rulerColor: [1, 0.85, 0.3, 1],
    rulerWidth: 2,
    dragMode: DRAG_MODE.windowing,
    dragAndDropEnabled: false,
    viewModeHotKey: "",
    clipPlaneHotKey: "",
    cycleClipPlaneHotKey: "",
    multiplanarPadPixels: 4,
    logLevel: "warn",
  });

  // The place

  const place = () => [...nv.scene.crosshairPos];
  const sizeOf = (axis) => scan.extent[axis];
  const indexOf = (axis) => Math.min(limitOf(axis), Math.floor(place()[axis] * sizeOf(axis)));
  const limitOf = (axis) => (axis === AXIAL ? sliceCount : sizeOf(axis)) - 1;

  function goTo(fractions) {
    nv.scene.crosshairPos = fractions;
    nv.createOnLocationChange();
    nv.drawScene();
  }

  function goToIndex(axis, index) {
    const fractions = place();
    fractions[axis] = (Math.max(0, Math.min(limitOf(axis), index)) + 0.5) / sizeOf(axis);
    goTo(fractions);
  }

  function showPlace(location) {
    const z = indexOf(AXIAL);
    const hu = Math.round(location.values[0].value);
    find("where").textContent = `Slice ${firstSlice + sliceStep * z}, z = ${scan.zMm[z].toFixed(1)} mm, about ${hu} HU`;
    const axis = AXES[view];
    find("slice").max = limitOf(axis);
    find("slice").value = indexOf(axis);
    const mark = find("mark");
    if (mark) mark.setAttribute("d", `M${(((z + 0.5) / sliceCount) * 744).toFixed(1)} 0V92`);
  }

  function showRegion(index) {
    region = index;
    goTo([...scan.regions[index]]);
    all("#regions tbody tr").forEach((row, at) => row.setAttribute("aria-current", String(at === index)));
  }

  // The pictures

  function press(group, button) {
    all(`#${group} button[aria-pressed]`).forEach((other) => other.setAttribute("aria-pressed", "false"));
    button.setAttribute("aria-pressed", "true");
  }

  function showLayers() {
    const is3d = view === "render";
    nv.volumes[0].opacity = is3d ? 0 : 1; // the CT would hide what is inside
    scan.layers.forEach(({ name, opacity3d }, index) => {
      const opacity = find(`show-${name}`).checked ? document.querySelector(`[data-opacity="${name}"]`).value / 100 : 0;
      nv.volumes[index + 1].opacity = opacity * (is3d ? opacity3d : 1);
    });
    nv.updateGLVolume();
  }

  function layOutPlanes() {
    const { clientWidth, clientHeight } = find("screen").parentElement;
    nv.setCustomLayout(clientHeight > clientWidth ? PLANES.tall : PLANES.wide);
  }

  function showView(button) {
    const was3d = view === "render";
    view = button.dataset.view;
    press("views", button);
    if (view === "planes") layOutPlanes();
    else nv.clearCustomLayout();
    nv.setSliceType(SLICE_TYPE[view === "planes" ? "MULTIPLANAR" : view.toUpperCase()]);
    if (was3d || view === "render") showLayers();
    nv.createOnLocationChange();
  }

  function showWindow(button) {
    press("windows", button);
    [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = button.dataset.window.split(" ").map(Number);
    nv.updateGLVolume();
  }

  function useTool(button) {
    const tool = DRAG_MODE[button.dataset.tool];
    press("tools", button);
    nv.setMouseEventConfig({ leftButton: { primary: tool }, rightButton: DRAG_MODE.windowing, centerButton: DRAG_MODE.pan });
    nv.setTouchEventConfig({ singleTouch: tool, doubleTouch: DRAG_MODE.pan });
  }

  function reset() {
    nv.clearAllMeasurements();
    nv.setPan2Dxyzmm([0, 0, 0, 1]);
    showWindow(document.querySelector("#windows [aria-pressed=true]"));
  }

  // The profile

  function drawProfile() {
    const [left, right] = scan.infectedMl;
    const most = Math.max(...left, ...right) || 1;
    const svg = find("profile");
    const line = (values) => values.map((ml, z) => `${(((z + 0.5) / sliceCount) * 744).toFixed(1)},${(88 - (ml / most) * 72).toFixed(1)}`).join(" ");
    const add = (tag, attributes, text = "") => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
      element.textContent = text;
      svg.append(element);
    };
    for (const [values, stroke] of [[right, "#56b4e9"], [left, "#e69f00"]]) {
      add("polyline", { points: line(values), fill: "none", stroke, "stroke-width": 2, "vector-effect": "non-scaling-stroke" });
    }
    add("path", { id: "mark", stroke: "#fff", "stroke-dasharray": "3 3", "vector-effect": "non-scaling-stroke" });
    find("most").textContent = `${most.toPrecision(2)} ml`;
    all("#profile, #legend").forEach((element) => element.removeAttribute("hidden"));
    svg.addEventListener("pointerdown", (event) => {
      const box = svg.getBoundingClientRect();
      goToIndex(AXIAL, Math.floor(((event.clientX - box.left) / box.width) * sliceCount));
    });
  }

  // Mouse, touch and keyboard

  function next(selector, current) {
    const buttons = all(selector);
    return buttons[(buttons.indexOf(current) + 1) % buttons.length];
  }

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const axis = AXES[view];
    const isSlider = event.target.type === "range";
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
    const other = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const layer = all("[data-layer]")[Number(event.key) - 1];
    if (event.key in steps && !isSlider) goToIndex(axis, indexOf(axis) + steps[event.key]);
    else if (other && !isSlider && scan.regions.length) {
      showRegion((Math.max(region, other < 0 ? 0 : -1) + other + scan.regions.length) % scan.regions.length);
    } else if (layer) layer.click();
    else if (event.key === "0") {
      const isAny = all("[data-layer]").some((box) => box.checked);
      all("[data-layer]").forEach((box) => (box.checked = !isAny));
      showLayers();
    } else if (event.key === "w") showWindow(next("#windows button", document.querySelector("#windows [aria-pressed=true]")));
    else if (event.key === "v") showView(next("#views button", document.querySelector("#views [aria-pressed=true]")));
    else if (event.key === "m") useTool(next("[data-tool]", document.querySelector("[data-tool=crosshair]")));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function listen() {
    const on = (selector, kind, act) => all(selector).forEach((element) => element.addEventListener(kind, () => act(element)));
    on("[data-view]", "click", showView);
    on("[data-window]", "click", showWindow);
    on("[data-tool]", "click", useTool);
    on("[data-region]", "click", (button) => showRegion(Number(button.dataset.region)));
    on("[data-layer]", "change", showLayers);
    on("[data-opacity]", "input", showLayers);
    on("#slice", "input", (slider) => goToIndex(AXES[view], Number(slider.value)));
    on("#reset", "click", reset);
    document.addEventListener("keydown", onKey, true);
    window.addEventListener("resize", () => view === "planes" && layOutPlanes());
  }

  async function start() {
    if (scan.infectedMl) drawProfile();
    nv.onLocationChange = showPlace;
    await nv.attachToCanvas(find("screen"));
    layOutPlanes();
    nv.setRenderAzimuthElevation(180, 10); // from the front
    nv.setScale(1.4);
    const load = (name, options) => NVImage.loadFromBase64({ base64: find(`volume-${name}`).textContent, name: `${name}.nii.gz`, ...options });
    scan.layers.forEach(({ name, colours }) => nv.addColormap(name, colours));
    const [low, high] = document.querySelector("#windows button").dataset.window.split(" ").map(Number);
    nv.addVolume(await load("ct", { colormap: "gray", cal_min: low, cal_max: high }));
    goTo([...scan.start]);
    find("wait").hidden = true;
    await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown))); // the CT first, then the layers
    const layers = scan.layers.map(({ name, most, isHeat }) => load(name, { colormap: name, cal_min: isHeat ? 0.999 * most : 0, cal_max: most }));
    nv.overlays = await Promise.all(layers);
    scan.layers.forEach(({ isHeat }, index) => (nv.overlays[index].colormapType = isHeat ? TRANSLUCENT_BELOW_MIN : 0));
    nv.volumes.push(...nv.overlays);
    listen();
    useTool(document.querySelector("[data-tool]"));
    showLayers();
    document.body.dataset.ready = "yes";
  }

  start().catch((error) => {
    find("wait").hidden = false;
    find("wait").lastChild.textContent = `Only this slice can be shown: ${error.message} This page needs a browser with WebGL 2.`;
  });
})();
