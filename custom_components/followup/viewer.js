// viewer.html of a comparison: two canvases of niivue on one grid, the earlier scan and the later one, at one place.
// Places are fractions of the volume: towards the patient's left (0), front (1) and top (2).
"use strict";
(() => {
  const { Niivue, NVImage, SLICE_TYPE, DRAG_MODE } = niivue;
  const find = (id) => document.getElementById(id);
  const all = (selector) => [...document.querySelectorAll(selector)];
  const scan = JSON.parse(find("scan").textContent);
  const [firstSlice, sliceStep, sliceCount] = scan.slices;
  const AXES = { axial: 2, coronal: 1, sagittal: 0 };
  let view = "axial";
  let place = [...scan.start];

  const options = {
    isRadiologicalConvention: true, showAllOrientationMarkers: true, fontColor: [1, 0.8, 0.25, 1],
    crosshairColor: [0.55, 0.9, 1, 0.7], crosshairWidth: 0.6, crosshairWidthUnit: "mm", crosshairGap: 14,
    dragMode: DRAG_MODE.windowing, dragAndDropEnabled: false,
    viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", logLevel: "warn",
  };
  const views = { earlier: new Niivue(options), later: new Niivue(options) };
  const both = Object.values(views);

  const sizeOf = (axis) => scan.extent[axis];
  const limitOf = (axis) => (axis === 2 ? sliceCount : sizeOf(axis)) - 1;
  const indexOf = (axis) => Math.max(0, Math.min(limitOf(axis), Math.floor(place[axis] * sizeOf(axis))));

  function goTo(fractions) {
    place = [...fractions];
    both.forEach((nv) => {
      nv.scene.crosshairPos = [...place];
      nv.drawScene();
    });
    find("where").textContent = `Slice ${firstSlice + sliceStep * indexOf(2)} of the later scan`;
    find("slice").max = limitOf(AXES[view]);
    find("slice").value = indexOf(AXES[view]);
  }

  function goToIndex(axis, index) {
    const fractions = [...place];
    fractions[axis] = (Math.max(0, Math.min(limitOf(axis), index)) + 0.5) / sizeOf(axis);
    goTo(fractions);
  }

  function showRegion(index) {
    goTo(scan.regions[index]);
    all("#regions tbody tr").forEach((row, at) => row.setAttribute("aria-current", String(at === index)));
  }

  function press(group, button) {
    all(`#${group} button`).forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  }

  function showView(button) {
    view = button.dataset.view;
    press("views", button);
    both.forEach((nv) => nv.setSliceType(SLICE_TYPE[view.toUpperCase()]));
    goTo(place);
  }

  function showWindow(button) {
    press("windows", button);
    both.forEach((nv) => {
      [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = button.dataset.window.split(" ").map(Number);
      nv.updateGLVolume();
    });
  }

  function showLayers() {
    Object.entries(views).forEach(([side, nv]) => {
      scan.layers[side].forEach(({ name, opacity }, index) => {
        nv.volumes[index + 1].opacity = find(`show-${name}`).checked ? opacity : 0;
      });
      nv.updateGLVolume();
    });
  }

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.type === "range") return;
    const axis = AXES[view];
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
    const layer = all("[data-layer]")[Number(event.key) - 1];
    if (event.key in steps) goToIndex(axis, indexOf(axis) + steps[event.key]);
    else if (layer) layer.click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function listen() {
    const on = (selector, kind, act) => all(selector).forEach((element) => element.addEventListener(kind, () => act(element)));
    on("[data-view]", "click", showView);
    on("[data-window]", "click", showWindow);
    on("[data-region]", "click", (button) => showRegion(Number(button.dataset.region)));
    on("[data-layer]", "change", showLayers);
    on("#slice", "input", (slider) => goToIndex(AXES[view], Number(slider.value)));
    document.addEventListener("keydown", onKey, true);
    // What a mouse, a wheel or a finger does on one canvas, the other follows: place, zoom and shift.
    const pairs = [[views.earlier, views.later], [views.later, views.earlier]];
    pairs.forEach(([one, other]) => {
      one.onLocationChange = () => {
        if (both.some((nv) => nv.scene.crosshairPos.some((value, axis) => value !== one.scene.crosshairPos[axis]))) {
          other.scene.pan2Dxyzmm = [...one.scene.pan2Dxyzmm];
          goTo(one.scene.crosshairPos);
        }
      };
    });
  }

  async function start() {
    const load = (name, more) => NVImage.loadFromBase64({ base64: find(`volume-${name}`).textContent, name: `${name}.nii.gz`, ...more });
    const [low, high] = document.querySelector("#windows button").dataset.window.split(" ").map(Number);
    for (const [side, nv] of Object.entries(views)) {
      await nv.attachToCanvas(find(side));
      nv.setSliceType(SLICE_TYPE.AXIAL);
      scan.layers[side].forEach(({ name, colours }) => nv.addColormap(`${side}-${name}`, colours));
      nv.addVolume(await load(side, { colormap: "gray", cal_min: low, cal_max: high }));
      const layers = scan.layers[side].map(({ name, most }) => load(`${side}-${name}`, { colormap: `${side}-${name}`, cal_min: 0, cal_max: most }));
      nv.overlays = await Promise.all(layers);
      nv.volumes.push(...nv.overlays);
    }
    showLayers();
    goTo(place);
    listen();
    all("[data-wait]").forEach((element) => (element.hidden = true));
    document.body.dataset.ready = "yes";
  }

  start().catch((error) => {
    all("[data-wait]").forEach((element) => (element.textContent = `The pictures cannot be shown: ${error.message} This page needs a browser with WebGL 2.`));
  });
})();
