"""The best known points of the engineering suite, by problem name.

Each point is feasible with a tolerance of 0 and survives encoding and decoding unchanged; each value is the one
that the formula gives there. Located by differential evolution (two runs) and SLSQP (24 to 60 starts) on a separate
implementation (tests/reference/engineering.json); polished here by SLSQP and Newton steps on the active constraints,
then moved inwards by the little that satisfies them in floating point. The tests search again, with SLSQP and, for
the mixed twins, by enumeration. The analytic problems state their optima in their own file.
"""

from __future__ import annotations

from .problem import Optimum

_SOLVED = "differential evolution and SLSQP from many starts, polished on the active constraints"
_ENUMERATED = "enumeration of the discrete variables, the others solved for each choice"
_TOLERANCE = 1e-11

_KEANE = Optimum(
    -0.7971138758119137,
    {
        "x": [
            3.16032557511, 3.1221770265, 3.08467637267, 3.04727709391, 3.00943675793, 2.97054394844,
            2.92981551975, 0.51374389749, 0.50539670152, 0.49776455892, 0.49072204319, 0.48417580542,
            0.47805417986, 0.47230080812, 0.46687042547, 0.46172607132, 0.45683710353, 0.45217780443,
        ]
    },
    "SLSQP from 1,500 starts, polished; the same search gives the known values for 2, 10 and 20 dimensions; no proof",
    _TOLERANCE,
)  # fmt: skip

_BEAM_BOEB = Optimum(
    358.5457034352828,
    {"steel_area": 6.47052163273, "depth": 33.49749915372, "width": 8.37437478843},
    _SOLVED,
    _TOLERANCE,
)

_SPRING_BOEB = Optimum(
    0.012665232788350645,
    {"wire_diameter": 0.0516890610842, "coil_diameter": 0.356717739834, "coils": 11.28896574962},
    _SOLVED,
    _TOLERANCE,
)

_VESSEL_BOEB = Optimum(
    5910.064472409239,
    {"shell_thickness": 0.79237631822, "head_thickness": 0.391672024654, "radius": 41.0557677834, "length": 190.0},
    _SOLVED,
    _TOLERANCE,
)

_REDUCER = {
    "face_width": 3.5,
    "module": 0.7,
    "teeth": 17,
    "shaft_length_1": 7.3,
    "shaft_length_2": 7.715319911479,
    "shaft_diameter_1": 3.350214666097,
    "shaft_diameter_2": 5.2866544649803,
}

_CAR = {
    "b_pillar_inner": 0.5,
    "b_pillar_reinforcement": 1.1163655852497,
    "floor_side_inner": 0.5,
    "cross_members": 1.302197193396,
    "door_beam": 0.5,
    "door_beltline_reinforcement": 1.5,
    "roof_rail": 0.5,
    "b_pillar_material": 0.345,
    "floor_side_material": 0.192,  # any value of the box gives the same weight
    "barrier_height": -19.56153037088,
    "hitting_position": 0.0,
}
_CAR_WEIGHT = 22.84296919913346

OPTIMA: dict[str, Optimum] = {
    "keane_bump_18": _KEANE,
    "three_bar_truss": Optimum(
        263.895843376535, {"outer_area": 0.788675134595, "middle_area": 0.408248290464}, _SOLVED, _TOLERANCE
    ),
    "concrete_beam": Optimum(
        358.7116412590873,
        {"steel_area": 6.46941757325, "depth": 33.51723582532, "width": 8.379308956331},
        _SOLVED,
        _TOLERANCE,
    ),
    "concrete_beam_mixed": Optimum(359.208, {"steel_area": 6.32, "depth": 34, "width": 8.5}, _ENUMERATED, _TOLERANCE),
    "concrete_beam@boeb_2024_04": _BEAM_BOEB,
    "concrete_beam@boeb_head": _BEAM_BOEB,
    "welded_beam": Optimum(
        2.3811342491828804,
        {
            "weld_thickness": 0.244368984748,
            "weld_length": 6.21860631259,
            "bar_height": 8.291471238704,
            "bar_thickness": 0.244368984749,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "welded_beam_coello": Optimum(
        1.724852308606065,
        {
            "weld_thickness": 0.205729639786,
            "weld_length": 3.470488665641,
            "bar_height": 9.036623910358,
            "bar_thickness": 0.205729639787,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "cantilever": Optimum(
        63108.74798651296,
        {
            "width_1": 3.05772830399,
            "width_2": 2.813266501376,
            "width_3": 2.523586298611,
            "width_4": 2.204555691543,
            "width_5": 1.749757011939,
            "height_1": 61.15456607978,
            "height_2": 56.26533002751,
            "height_3": 50.4717259722,
            "height_4": 44.09111383084,
            "height_5": 34.99514023876,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "cantilever_mixed": Optimum(
        64334.64237961871,
        {
            "width_1": 3,
            "width_2": 3.1,
            "width_3": 2.6,
            "width_4": 2.225010469409,
            "width_5": 1.749757011939,
            "height_1": 60,
            "height_2": 55,
            "height_3": 51,
            "height_4": 44.50020938818,
            "height_5": 34.99514023878,
        },
        _ENUMERATED,
        _TOLERANCE,
    ),
    "cantilever@boeb_2024_04": Optimum(
        37299.430169202504,
        {
            "width_1": 1.0,
            "width_2": 2.028740490279,
            "width_3": 1.52155536771,
            "width_4": 1.01437024514,
            "width_5": 1.0,
            "height_1": 30.0,
            "height_2": 65.0,
            "height_3": 65.0,
            "height_4": 65.0,
            "height_5": 46.29100498864,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "cantilever@boeb_head": Optimum(
        None, None, "no point of the box is feasible: by two slips the deflection is 9.7e7 cm everywhere, limit 2.7"
    ),
    "spring": Optimum(
        0.012665232788516485,
        {"wire_diameter": 0.051689061078, "coil_diameter": 0.356717739684, "coils": 11.28896575857},
        _SOLVED,
        _TOLERANCE,
    ),
    "spring@boeb_2024_04": _SPRING_BOEB,
    "spring@boeb_head": _SPRING_BOEB,
    "pressure_vessel": Optimum(
        5885.332773623439,
        {
            "shell_thickness": 0.778168641376,
            "head_thickness": 0.384649162628,
            "radius": 40.3196187241,
            "length": 200.0,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "pressure_vessel_mixed": Optimum(
        6059.714335056996,
        {"shell_thickness": 0.8125, "head_thickness": 0.4375, "radius": 42.0984455958, "length": 176.6365958432},
        _ENUMERATED,
        _TOLERANCE,
    ),
    "pressure_vessel@boeb_2024_04": _VESSEL_BOEB,
    "pressure_vessel@boeb_head": _VESSEL_BOEB,
    "speed_reducer": Optimum(2994.4710661470267, {**_REDUCER, "teeth": 17.0}, _SOLVED, _TOLERANCE),
    "speed_reducer_mixed": Optimum(2994.4710661470267, _REDUCER, _ENUMERATED, _TOLERANCE),
    "speed_reducer@boeb_2024_04": Optimum(
        2609.9057486767188,
        {
            "face_width": 3.241296518608,
            "module": 0.7,
            "teeth": 17.0,
            "shaft_length_1": 7.3,
            "shaft_length_2": 7.3,
            "shaft_diameter_1": 2.9,
            "shaft_diameter_2": 5.0,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "speed_reducer@boeb_head": Optimum(
        2885.1792659202547,
        {
            "face_width": 3.5,
            "module": 0.7,
            "teeth": 17.0,
            "shaft_length_1": 7.3,
            "shaft_length_2": 7.3,
            "shaft_diameter_1": 2.9,
            "shaft_diameter_2": 5.2865179217176,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "heat_exchanger": Optimum(
        7049.248020536999,
        {
            "area_1": 579.306684441,
            "area_2": 1359.970667345,
            "area_3": 5109.970668751,
            "cold_outlet_1": 182.0176995823,
            "cold_outlet_2": 295.6011732502,
            "hot_outlet_1": 217.9823004176,
            "hot_outlet_2": 286.4165263321,
            "hot_outlet_3": 395.6011732501,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "heat_exchanger@boeb_2024_04": Optimum(
        2100.0,
        {
            "area_1": 100.0,
            "area_2": 1000.0,
            "area_3": 1000.0,
            "cold_outlet_1": 10.0,
            "cold_outlet_2": 10.0,
            "hot_outlet_1": 10.0,
            "hot_outlet_2": 10.0,
            "hot_outlet_3": 10.0,
        },
        "all three areas at their lower bounds, with room for the temperatures",
    ),
    "heat_exchanger@boeb_head": Optimum(
        8312.911857766,
        {
            "area_1": 100.0,
            "area_2": 2231.455927845,
            "area_3": 5981.455929921,
            "cold_outlet_1": 121.4286768877,
            "cold_outlet_2": 260.7417628034,
            "hot_outlet_1": 278.5713231122,
            "hot_outlet_2": 260.6869140843,
            "hot_outlet_3": 360.7417628034,
        },
        _SOLVED,
        _TOLERANCE,
    ),
    "car_side_impact": Optimum(_CAR_WEIGHT, _CAR, _SOLVED, _TOLERANCE),
    "car_side_impact_mixed": Optimum(_CAR_WEIGHT, _CAR, _ENUMERATED, _TOLERANCE),
    "car_side_impact@boeb_2024_04": Optimum(_CAR_WEIGHT, _CAR, _SOLVED, _TOLERANCE),
    "car_side_impact@boeb_head": Optimum(_CAR_WEIGHT, _CAR, _SOLVED, _TOLERANCE),
}
