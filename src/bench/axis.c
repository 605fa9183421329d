/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/axis.h"

#include <math.h>

/* Above this ratio a linear scale would press the small ones into a point. */
#define MOST_LINEAR 12.0

static void add_tick(struct axis *axis, double value)
{
    /* What rounding has pushed over an end is still there. */
    double slack = 1e-9 * axis->to;
    if (axis->tick_count < AXIS_MAX_TICKS && value >= axis->from - slack && value <= axis->to + slack)
        axis->ticks[axis->tick_count++] = value;
}

/* 1, 2 or 5 times a power of ten, for about five steps. */
static double step_for(double most)
{
    double rough = most / 5, power = pow(10, floor(log10(rough))), times = rough / power;
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void make_linear(struct axis *axis, double most)
{
    double step = step_for(most > 0 ? most : 1);
    axis->from = 0;
    axis->to = most > 0 ? ceil(most / step) * step : 1;
    for (int i = 0; i < AXIS_MAX_TICKS; i++)
        add_tick(axis, i * step);
}

/* The nearest of 1, 2 and 5 times a power of ten that is not above the value. */
static double round_below(double value)
{
    double power = pow(10, floor(log10(value))), times = value / power * (1 + 1e-12);
    return power * (times >= 5 ? 5 : times >= 2 ? 2 : 1);
}

static double round_above(double value)
{
    double power = pow(10, floor(log10(value))), times = value / power * (1 - 1e-12);
    return power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
}

static void make_logarithmic(struct axis *axis, double least, double most)
{
    static const double within[] = {1, 2, 5};
    axis->logarithmic = true;
    axis->from = round_below(least);
    axis->to = round_above(most);
    double low = floor(log10(axis->from)), high = ceil(log10(axis->to));
    /* Of few decades also 2 and 5, and of many not every one. */
    int per_decade = high - low <= 3 ? 3 : 1, every = (int)ceil((high - low) / (AXIS_MAX_TICKS - 1));
    for (double decade = low; decade <= high; decade += every)
        for (int i = 0; i < per_decade; i++)
            add_tick(axis, within[i] * pow(10, decade));
}

void axis_make(struct axis *axis, double least, double most)
{
    *axis = (struct axis){0};
    if (least > 0 && most / least > MOST_LINEAR)
        make_logarithmic(axis, least, most);
    else
        make_linear(axis, most);
}

double axis_place(const struct axis *axis, double value)
{
    double place = axis->logarithmic
                       ? log(fmax(value, axis->from) / axis->from) / log(axis->to / axis->from)
                       : (value - axis->from) / (axis->to - axis->from);
    return fmin(fmax(place, 0), 1);
}
